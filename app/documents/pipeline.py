"""The one write path: a queue, batches, commits.

Every change to a document, whoever asks, is a `Submission` that goes through here. The steps
are numbered as in docs/architecture.md.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import structlog

from app.clock import Clock
from app.database.engine import Database, KeptConnection, unavailable
from app.database.retry import (
    RETRIES,
    is_exhausted,
    is_of_the_content,
    is_stuck,
    is_transient,
    pause_before,
)
from app.documents import store
from app.documents.cache import Cache, Head, Kept
from app.documents.decide import decide
from app.documents.lane import Lane
from app.documents.model import Committed, Decision, Limits, Mutation, Snapshot
from app.documents.workspace import Workspace
from app.errors import Code, SynclineError, cursor_expired
from app.metering import SIZES, Histogram, WriteMeter
from merge_rules.registry import Registry

log = structlog.get_logger()

DECIDED_AT_ONCE = 64
"""Mutations that are decided before other requests have their turn."""
WAITING_OF_ONE = 1_024
"""Mutations of one account that may wait: who floods the service fills no queue but its own."""
DOUBTFUL_BATCHES = 100
"""How long a process that met another on the same account does not rely on its memory alone."""


@dataclass(slots=True, eq=False)
class Submission:
    """Mutations of one account, to be applied in order in one transaction."""

    account: str
    mutations: Sequence[Mutation]
    device: str | None = None
    """The device that syncs, where its local store is to be told from a copy of it."""
    numbered: bool = False
    """Whether the device says what it knows to be acknowledged, so that its mutations have
    numbers by which a copy of its store can be told."""
    checks_fork: bool = False
    previous: UUID | None = None
    """The last mutation that the device knows to be acknowledged."""
    after: int = 0
    """The sequence up to which the caller has seen changes; past the head it is of a lost past."""
    of_this_era: Callable[[], bool] = lambda: True
    """Whether `after` counts the changes of this database, and not of one from before a restore."""
    together: Sequence[Mutation] = ()
    """All that the device sent, where these are committed apart from the rest of it."""
    answer: "asyncio.Future[list[Decision]]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def size(self) -> int:
        return len(self.mutations)


Answers = dict[Submission, list[Decision] | SynclineError]


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    lanes: int
    queue_limit: int
    batch_limit: int
    history: int
    max_documents: int
    limits: Limits
    cache_bytes: int = 0
    """Of documents kept in memory, about."""


class Pipeline:
    """Batches what waits and commits it. There is no timer: while a batch commits, the next fills.

    Each lane holds one connection. An account always has the same lane, so its writes keep
    their order, and two processes are kept apart by the lock on its head.
    """

    def __init__(
        self, database: Database, registry: Registry, clock: Clock, settings: PipelineSettings
    ) -> None:
        self._database = database
        self._registry = registry
        self._clock = clock
        self._settings = settings
        self._cache = Cache(settings.cache_bytes)
        self.meter = WriteMeter()
        self.batches = Histogram(SIZES)
        """By how many mutations they held."""
        self._doubts = 0
        """Batches for which the heads are asked for, since others write the same accounts."""
        self._connections = [database.kept() for _ in range(settings.lanes)]
        self._lanes = [
            Lane(partial(self._serve, connection), _fail_all, settings.batch_limit)
            for connection in self._connections
        ]
        self._listeners: list[Callable[[Committed], None]] = []
        self._waiting = 0
        self._waiting_of: dict[str, int] = {}
        self._stopping = False

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Tells of every commit that changed a document. A listener takes note, and no more: it
        must neither wait nor raise."""
        self._listeners.append(listener)

    @property
    def waiting(self) -> int:
        """Mutations that are queued and not yet part of a batch."""
        return self._waiting

    @property
    def cache(self) -> Cache:
        return self._cache

    def start(self) -> None:
        for lane in self._lanes:
            lane.start()

    async def stop(self) -> None:
        """Answers everything that was submitted, then ends."""
        self._stopping = True
        await asyncio.gather(*(lane.stop() for lane in self._lanes))
        for connection in self._connections:
            await connection.close()

    async def submit(self, submission: Submission) -> list[Decision]:
        """1. Queue. A decision for each mutation, once all of them are committed.

        Raises SynclineError: OVERLOADED, SHUTTING_DOWN, DATABASE_UNAVAILABLE, DEVICE_FORKED
        for the whole submission. A rejected mutation is a decision with a problem. A caller
        that is cancelled leaves the batch as it is.
        """
        if self._stopping:
            raise SynclineError(Code.SHUTTING_DOWN, "Send the same request again in a moment.")
        account, size = submission.account, submission.size
        of_account = self._waiting_of.get(account, 0)
        full = self._waiting + size > self._settings.queue_limit
        if full or (of_account and of_account + size > WAITING_OF_ONE):
            raise SynclineError(Code.OVERLOADED, "Send the same request again after Retry-After.")
        self._waiting += size
        self._waiting_of[account] = of_account + size
        self._lanes[hash(submission.account) % len(self._lanes)].add(submission)
        return await submission.answer

    async def _serve(self, connection: KeptConnection, batch: Sequence[Submission]) -> None:
        self.batches.add(sum(submission.size for submission in batch))
        for submission in batch:
            self._waiting -= submission.size
            left = self._waiting_of.pop(submission.account) - submission.size
            if left:
                self._waiting_of[submission.account] = left
        await self._commit(connection, batch)

    async def _commit(
        self, connection: KeptConnection, batch: Sequence[Submission], *, lock: bool = False
    ) -> None:
        """Commits a batch and answers it; what fails as a whole is tried piece by piece."""
        try:
            answers = await self._commit_with_retries(connection, batch, lock=lock)
        except SynclineError as error:
            accounts = {submission.account for submission in batch}
            if len(accounts) == 1 or not is_stuck(error.__cause__):
                _fail(batch, error)
                return
            # Somebody holds one of the accounts: the others need not fail with it.
            for account in accounts:
                alone = [one for one in batch if one.account == account]
                await self._commit(connection, alone, lock=lock)
        except Exception as error:
            if is_of_the_content(error):
                await self._commit_apart(connection, batch, error, lock=lock)
                return
            log.error("batch failed", exc_info=error)
            _fail(batch, SynclineError(Code.INTERNAL, "The service's log says why."))
        else:
            for submission, answer in answers.items():
                if submission.answer.done():
                    continue
                if isinstance(answer, SynclineError):
                    submission.answer.set_exception(answer)
                else:
                    submission.answer.set_result(answer)
            late = [submission for submission in batch if submission not in answers]
            if late:
                # Another process wrote these accounts meanwhile: now it has to wait. What is
                # committed and answered by now is not decided again, whatever becomes of these.
                self._doubts = DOUBTFUL_BATCHES
                self.meter.contended += 1
                await self._commit(connection, late, lock=True)

    async def _commit_apart(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        error: Exception,
        *,
        lock: bool,
    ) -> None:
        """One bad mutation must not take others with it: each is committed alone."""
        if len(batch) > 1:
            for submission in batch:
                await self._commit(connection, [submission], lock=lock)
            return
        (submission,) = batch
        if len(submission.mutations) == 1:
            log.error("mutation failed", key=submission.mutations[0].key, exc_info=error)
            _fail(batch, SynclineError(Code.INTERNAL, "The service's log says why."))
            return
        decisions: list[Decision] = []
        for index, mutation in enumerate(submission.mutations):
            alone = Submission(submission.account, [mutation], submission.device)
            alone.numbered = submission.numbered
            if index == 0:
                alone.after, alone.of_this_era = submission.after, submission.of_this_era
                alone.checks_fork, alone.previous = submission.checks_fork, submission.previous
                alone.together = submission.mutations
            await self._commit(connection, [alone], lock=lock)
            failure = alone.answer.exception()
            if failure is None:
                decisions += alone.answer.result()
            elif isinstance(failure, SynclineError) and failure.code is Code.INTERNAL:
                decisions.append(Decision(None, None, problem=failure))
            else:
                _fail(batch, failure)
                return
        if not submission.answer.done():
            submission.answer.set_result(decisions)

    async def _commit_with_retries(
        self, connection: KeptConnection, batch: Sequence[Submission], *, lock: bool
    ) -> Answers:
        """A lost connection leaves the commit unknown: the ids that it wrote tell, next time."""
        for attempt in range(RETRIES):
            try:
                return await self._commit_once(connection, batch, lock=lock)
            except Exception as error:
                if is_exhausted(error):
                    raise unavailable() from error
                if not is_transient(error):
                    raise
                log.warning("batch is tried again", attempt=attempt, error=repr(error))
                self.meter.retries += 1
                if attempt + 1 < RETRIES:
                    await asyncio.sleep(pause_before(attempt))
        raise unavailable()

    async def _commit_once(
        self, kept: KeptConnection, batch: Sequence[Submission], *, lock: bool
    ) -> Answers:
        """Answers for those submissions whose accounts nobody else wrote meanwhile: for all, if
        the heads are locked."""
        async with kept.use() as connection:
            if lock:
                async with connection.transaction():
                    done = await self._attempt(connection, batch, lock=True)
            else:
                self._doubts -= 1
                done = await self._attempt(connection, batch, lock=False)
        # 6. Committed: the caller answers, and whoever listens is poked.
        answers, workspace, heads = done
        self._keep(workspace, heads)
        committed = workspace.committed(heads)
        if committed.seqs:
            self.meter.commits += 1
            for listener in self._listeners:
                listener(committed)
        assert not lock or heads.keys() == workspace.heads.keys(), "a locked head changed"
        return {one: answer for one, answer in answers.items() if one.account in heads}

    async def _attempt(
        self, connection: object, batch: Sequence[Submission], *, lock: bool
    ) -> tuple[Answers, Workspace, dict[str, Head]]:
        """Answers, and the present heads of those accounts for which they are so."""
        accounts = sorted({submission.account for submission in batch})
        # 2. Read the account heads: what is decided is so as long as they do not change.
        heads = await self._heads(connection, accounts, lock=lock)
        # 3. Read the documents, the bases, the seen ids, as far as they are not kept in memory.
        workspace = await self._read(connection, accounts, heads, batch)
        # 4. Decide each mutation in memory.
        answers = await self._decide_all(batch, workspace)
        # 5. Write documents, revisions, ids, heads: one statement, for heads as they were.
        return answers, workspace, await workspace.write(connection)

    async def _heads(
        self, connection: object, accounts: Sequence[str], *, lock: bool
    ) -> dict[str, Head]:
        if lock or self._doubts > 0:
            return await store.read_heads(connection, accounts, lock=lock)
        kept = {name: self._cache.account(name) for name in accounts}
        heads = {name: account.head for name, account in kept.items() if account is not None}
        unknown = [name for name in accounts if name not in heads]
        if unknown:
            heads |= await store.read_heads(connection, unknown)
        return heads

    def _keep(self, workspace: Workspace, heads: dict[str, Head]) -> None:
        """Keeps what the next write on these accounts would read."""
        for account, documents in workspace.to_keep().items():
            if account in heads:
                self._cache.keep(account, workspace.heads[account], heads[account], documents)
            else:
                self._cache.forget(account)
        for account, device in workspace.new_devices:
            if account in heads:
                self._cache.note(account, device, workspace.now_ms)

    async def _read(
        self,
        connection: object,
        accounts: Sequence[str],
        heads: dict[str, Head],
        batch: Sequence[Submission],
    ) -> Workspace:
        asked = [(one.account, mutation) for one in batch for mutation in one.mutations]
        sent = [*asked, *((one.account, other) for one in batch for other in one.together)]
        ids = [(account, one.id) for account, one in sent if one.id is not None]
        ids += [(one.account, one.previous) for one in batch if one.previous is not None]
        devices = [(one.account, one.device) for one in batch if one.numbered and one.device]
        workspace = Workspace(
            history=self._settings.history,
            now_ms=self._clock(),
            former_rule=self._registry.made_by,
            noted=self._cache.noted,
            heads=heads,
            seqs={account: head.seq for account, head in heads.items()},
            kept=self._kept(heads, asked),
            seen=await store.read_seen(connection, accounts, set(ids)) if ids else {},
            devices=(
                await store.read_devices(connection, accounts, set(devices)) if devices else {}
            ),
        )
        await self._read_documents(connection, accounts, workspace, asked)
        await self._read_histories(connection, accounts, workspace, asked)
        return workspace

    def _kept(
        self, heads: dict[str, Head], asked: Sequence[tuple[str, Mutation]]
    ) -> dict[tuple[str, str], Kept]:
        """The documents that are in memory as they were with these very heads."""
        kept = {}
        for name, mutation in asked:
            account = self._cache.account(name)
            if account is not None and account.head == heads[name]:
                document = account.documents.get(mutation.key)
                if document is not None:
                    kept[name, mutation.key] = document
        return kept

    async def _read_documents(
        self,
        connection: object,
        accounts: Sequence[str],
        workspace: Workspace,
        asked: Sequence[tuple[str, Mutation]],
    ) -> None:
        workspace.documents = {id: kept.document for id, kept in workspace.kept.items()}
        unknown = {(account, one.key) for account, one in asked} - workspace.documents.keys()
        self.meter.cache_hits += len(workspace.documents)
        self.meter.cache_misses += len(unknown)
        if unknown:
            found = await store.read_documents(connection, accounts, unknown)
            workspace.documents |= found
            new = {account for account, key in unknown - found.keys()}
            if new:
                workspace.counts = await store.count_documents(connection, sorted(new))

    async def _read_histories(
        self,
        connection: object,
        accounts: Sequence[str],
        workspace: Workspace,
        asked: Sequence[tuple[str, Mutation]],
    ) -> None:
        """The past of documents, for writes on anything but their current version."""
        bases: set[tuple[str, str, int]] = set()
        owns: set[tuple[str, str, str]] = set()
        begun: set[tuple[str, str, int]] = set()
        for account, one in asked:
            current = workspace.documents.get((account, one.key))
            if current is None:
                continue
            earlier = one.revision if one.op == "restore" else one.base
            if earlier is not None and 0 < earlier < current.version:
                bases.add((account, one.key, earlier))
            if earlier is not None and earlier < current.epoch_version:
                begun.add((account, one.key, current.epoch_version))
                bases.add((account, one.key, current.epoch_version))
            repeats = one.id is not None and (account, one.id) in workspace.seen
            if (repeats or _needs_own(one, current)) and one.device is not None:
                owns.add((account, one.key, one.device))
        workspace.with_past = {(account, key) for account, key, _ in bases | owns}
        for account, key in workspace.with_past & workspace.kept.keys():
            kept = workspace.kept[account, key]
            for version, base in kept.bases.items():
                workspace.bases[account, key, version] = base
            for device, proposed in kept.owns.items():
                workspace.owns[account, key, device] = proposed
        bases -= workspace.bases.keys()
        owns -= workspace.owns.keys()
        if bases:
            history = self._settings.history
            workspace.bases |= await store.read_bases(connection, accounts, bases, history)
        if begun:
            found = await store.read_bases(connection, accounts, begun, self._settings.history)
            workspace.began = {(a, k): one for (a, k, _), one in found.items()}
        if owns:
            workspace.owns |= await store.read_owns(connection, accounts, owns)
            for id in owns:
                workspace.owns.setdefault(id, [])
        repeated = {
            (account, one.key, one.id)
            for account, one in asked
            if one.id is not None and (account, one.id) in workspace.seen
        }
        if repeated:
            workspace.made = await store.read_made(connection, accounts, repeated)
        await self._learn_rules(connection, workspace)

    async def _learn_rules(self, connection: object, workspace: Workspace) -> None:
        """Another process may merge by rules that this one has never heard of."""
        past = (*workspace.documents.values(), *workspace.bases.values())
        used = {one.rule for one in past} | {
            own.rule for owns in workspace.owns.values() for own in owns
        }
        if all(self._registry.knows(fingerprint) for fingerprint in used):
            return
        for _, fingerprint, definition in await store.read_rules(connection):
            self._registry.remember(fingerprint, definition)
        for fingerprint in used:
            self._registry.remember(fingerprint, "")

    async def _decide_all(self, batch: Sequence[Submission], workspace: Workspace) -> Answers:
        answers: Answers = {}
        size = 0
        for submission in batch:
            answers[submission] = self._decide(submission, workspace)
            size += submission.size
            if size >= DECIDED_AT_ONCE:
                await asyncio.sleep(0)
                size = 0
        return answers

    def _decide(
        self, submission: Submission, workspace: Workspace
    ) -> list[Decision] | SynclineError:
        head = workspace.heads[submission.account]
        if submission.after > head.seq or not submission.of_this_era():
            return cursor_expired()
        if submission.checks_fork and _forked(submission, workspace):
            return SynclineError(
                Code.DEVICE_FORKED,
                "This local store is a copy of another: take a new random device id, and send "
                "the same mutations again under it.",
            )
        behind = submission.checks_fork and _is_behind(submission, workspace)
        decisions = []
        for mutation in submission.mutations:
            decision = self._decide_one(submission.account, mutation, workspace)
            if decision.outcome == "duplicate":
                # A copy that is behind may be known by another id by now: what it sent is not
                # what the store that kept this id has seen.
                if not behind:
                    workspace.inherit(submission.account, mutation)
            elif decision.problem is None:
                numbered = submission.numbered
                workspace.record(submission.account, mutation, decision, numbered=numbered)
            decisions.append(decision)
        return decisions

    def _decide_one(self, account: str, mutation: Mutation, workspace: Workspace) -> Decision:
        current = workspace.documents.get((account, mutation.key))
        if mutation.id is not None:
            accepted = workspace.seen.get((account, mutation.id))
            if accepted is not None and accepted.digest == mutation.digest:
                return Decision("duplicate", current)
            if accepted is not None:
                detail = "This id was used for another mutation: give each its own random id."
                return Decision(None, current, problem=SynclineError(Code.ID_REUSED, detail))
        limit = self._settings.max_documents
        makes_one = current is None and mutation.op in ("put", "patch")
        if makes_one and workspace.counts.get(account, 0) >= limit:
            detail = f"An account may have {limit} documents: put more into each."
            problem = SynclineError(Code.TOO_MANY_DOCUMENTS, detail, limit=limit)
            return Decision(None, current, problem=problem)
        rule = self._registry.rule_for(mutation.key)
        past = workspace.past(account)
        return decide(mutation, rule, current, past, self._settings.limits, workspace.now_ms)


def _needs_own(mutation: Mutation, current: Snapshot) -> bool:
    """Whether the device may have written past the base, so that its own view counts."""
    return mutation.op == "patch" or (mutation.op == "put" and mutation.base != current.version)


def _forked(submission: Submission, workspace: Workspace) -> bool:
    """Whether a store that is behind sends anything new: a request that only repeats is no fork."""
    account, sent = submission.account, submission.together or submission.mutations
    new = any((account, mutation.id) not in workspace.seen for mutation in sent)
    return new and _is_behind(submission, workspace)


def _is_behind(submission: Submission, workspace: Workspace) -> bool:
    """Whether the server has accepted mutations of this device that this store does not know.

    A retry repeats mutations that were accepted already, so it is not behind if it holds all that
    were accepted since the one that the store knows.
    """
    account, device = submission.account, submission.device
    known = workspace.devices.get((account, device)) if device is not None else None
    if known is None or known.last is None or known.last == submission.previous:
        return False
    sent = [(account, mutation.id) for mutation in submission.together or submission.mutations]
    repeated = [workspace.seen[id] for id in sent if id in workspace.seen]
    if (account, known.last) not in sent:
        return True
    since: int | None = 0
    if submission.previous is not None:
        acknowledged = workspace.seen.get((account, submission.previous))
        since = None if acknowledged is None else acknowledged.number
    if since is None:
        return False
    numbers = {one.number for one in repeated if one.number is not None and one.number > since}
    return len(numbers) < known.accepted - since


def _fail(batch: Sequence[Submission], error: BaseException) -> None:
    for submission in batch:
        if not submission.answer.done():
            submission.answer.set_exception(error)


def _fail_all(batch: Sequence[Submission], error: Exception) -> None:
    _fail(batch, SynclineError(Code.INTERNAL, f"The log says why: {type(error)}."))
