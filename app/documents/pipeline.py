"""The one write path: a queue, batches, commits.

Every change to a document, whoever asks, is a `Submission` that goes through here. The steps
are numbered as in docs/architecture.md.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from app.clock import Clock
from app.database.engine import Database, KeptConnection, unavailable
from app.database.retry import (
    RETRIES,
    is_database_trouble,
    is_exhausted,
    is_held,
    is_of_the_content,
    is_stuck,
    is_transient,
    pause_before,
)
from app.documents import store
from app.documents.cache import Cache, Head
from app.documents.decide import decide
from app.documents.forks import forked, is_behind
from app.documents.gathering import Gathering
from app.documents.lane import Lane
from app.documents.model import Committed, Decision, Limits, Mutation
from app.documents.mutations import project_mutation
from app.documents.parking import Parking
from app.documents.submission import Submission
from app.documents.workspace import Workspace
from app.errors import Code, SynclineError, cursor_expired
from app.ledger.model import EventDecision
from app.ledger.profile import PROFILE, SERVER_OWNED, TOTALS, profile_with, totals_of
from app.metering import SIZES, Histogram, WriteMeter
from merge_rules.registry import Registry

log = structlog.get_logger()

DECIDED_AT_ONCE = 64
"""Mutations that are decided before other requests have their turn."""
WAITING_OF_ONE = 1_024
"""Mutations of one account that may wait: who floods the service fills no queue but its own."""
BY_CLIENTS = ("put", "patch", "delete", "restore")
"""What a client may ask for; not of documents that the service computes."""
DOUBTFUL_BATCHES = 100
"""How long a process that met another on the same account does not rely on its memory alone."""
STUCK_IN_A_ROW = 2
"""After so many that were tried alone and are stuck, others are taken to be stuck as well."""


class _NotProjected(Exception):
    """What events count for cannot become part of a document of the service's own."""

    def __init__(self, key: str, why: SynclineError) -> None:
        super().__init__(f"{key}: {why}")
        detail = f"What it counts for does not fit into the document {key!r}: {why.detail}"
        self.problem = SynclineError(Code.PROJECTION_FAILED, detail)


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
    their order, and two processes are kept apart by the lock on its head. An account that somebody
    holds for long is set aside by its lane, and waits where nobody waits for it.
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
        """By how many mutations and events they held."""
        self._gathering = Gathering(registry, self._cache, clock, settings.history, self.meter)
        self._doubts = 0
        """Batches for which the heads are asked for, since others write the same accounts."""
        self._connections = [database.kept(patient=False) for _ in range(settings.lanes)]
        self._lanes = [
            Lane(partial(self._serve, connection), _fail_all, settings.batch_limit)
            for connection in self._connections
        ]
        self._parking = Parking(
            database, partial(self._commit, lock=True), _fail, self._let_go, settings.batch_limit
        )
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
        """Mutations and events that are queued and not yet part of a batch."""
        return self._waiting

    @property
    def parked(self) -> int:
        """Accounts that are set aside since another session holds them."""
        return self._parking.accounts

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
        await self._parking.close()
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
        full = self._waiting + self._parking.size + size > self._settings.queue_limit
        if full or (of_account and of_account + size > WAITING_OF_ONE):
            raise SynclineError(Code.OVERLOADED, "Send the same request again after Retry-After.")
        self._waiting += size
        self._waiting_of[account] = of_account + size
        self._lane_of(account).add(submission)
        answer = await submission.answer
        if isinstance(answer, SynclineError):
            raise answer.again()
        return answer

    def _lane_of(self, account: str) -> Lane[Submission]:
        return self._lanes[hash(account) % len(self._lanes)]

    async def _serve(self, connection: KeptConnection, batch: Sequence[Submission]) -> None:
        self.batches.add(sum(submission.size for submission in batch))
        self._wait_no_more(batch)
        held = await self._commit(connection, batch)
        if held:
            self._park(held)

    def _wait_no_more(self, batch: Sequence[Submission]) -> None:
        for submission in batch:
            self._waiting -= submission.size
            left = self._waiting_of.pop(submission.account) - submission.size
            if left:
                self._waiting_of[submission.account] = left

    def _park(self, held: Sequence[Submission]) -> None:
        for account in {submission.account for submission in held}:
            self._lane_of(account).set_aside(account)
        self._parking.add(held)

    def _let_go(self, account: str, error: SynclineError | None) -> None:
        lane = self._lane_of(account)
        if error is not None:
            # Who waits behind need not find out one after another.
            behind = lane.take_aside(account)
            self._wait_no_more(behind)
            _fail(behind, error)
        lane.let_go(account)

    async def _commit(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        *,
        lock: bool = False,
        again: bool = False,
    ) -> Sequence[Submission]:
        """Commits a batch and answers it; what fails as a whole is tried piece by piece.

        Gives what it could not answer, since another session holds the account: of each account
        all that was to come after it, too.
        """
        try:
            answers = await self._commit_with_retries(connection, batch, lock=lock)
        except SynclineError as error:
            if is_held(error.__cause__):
                return await self._commit_free(connection, batch, lock=lock, again=again)
            accounts = _by_account(batch)
            if len(accounts) > 1 and is_stuck(error.__cause__):
                # One of the accounts may be at fault: the others need not fail with it.
                return await self._commit_parts(connection, accounts, lock=lock)
            _fail(batch, error)
        except Exception as error:
            if is_of_the_content(error):
                return await self._commit_apart(connection, batch, error, lock=lock)
            log.error("batch failed", exc_info=error)
            _fail(batch, SynclineError(Code.INTERNAL, "The service's log says why."))
        else:
            for submission, answer in answers.items():
                for one in submission.recorded:
                    self.meter.events[one.event.type.name, one.outcome] += 1
                if not submission.answer.done():
                    submission.answer.set_result(answer)
            late = [submission for submission in batch if submission not in answers]
            if late:
                # Another process wrote these accounts meanwhile: now it has to wait. What is
                # committed and answered by now is not decided again, whatever becomes of these.
                self._doubts = DOUBTFUL_BATCHES
                self.meter.contended += 1
                return await self._commit(connection, late, lock=True)
        return ()

    async def _commit_free(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        *,
        lock: bool,
        again: bool,
    ) -> Sequence[Submission]:
        """Commits a batch without the accounts that are held; gives those.

        `again`: all heads were found free before, and yet something was held.
        """
        parts = _by_account(batch)
        if len(parts) == 1:
            return batch
        try:
            async with connection.use() as driver:
                found = await store.find_held(driver, [part[0].account for part in parts])
        except Exception as error:
            if is_database_trouble(error):
                return batch  # all of them: the whole table is locked, say
            raise
        free = [one for one in batch if found.get(one.account) is False]
        if len(free) == len(batch) and not again:
            return await self._commit(connection, batch, lock=lock, again=True)
        if len(free) == len(batch):
            # What is held is no head: each account shows by itself whether it is its own.
            return await self._commit_parts(connection, parts, lock=lock)
        left = [one for one in batch if found.get(one.account)]
        if free:
            left += await self._commit(connection, free, lock=lock)
        being_made = [part for part in parts if part[0].account not in found]
        left += await self._commit_parts(connection, being_made, lock=lock)
        return left

    async def _commit_parts(
        self, connection: KeptConnection, parts: Sequence[Sequence[Submission]], *, lock: bool
    ) -> Sequence[Submission]:
        """Commits part after part, each of one account; gives what is held, and what stays
        behind it."""
        left: list[Submission] = []
        held: set[str] = set()
        stuck = 0
        for part in parts:
            account = part[0].account
            if account in held or stuck == STUCK_IN_A_ROW:
                left += part
                continue
            unanswered = await self._commit(connection, part, lock=lock)
            stuck = stuck + 1 if unanswered else 0
            if unanswered:
                held.add(account)
                left += unanswered
        return left

    async def _commit_apart(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        error: Exception,
        *,
        lock: bool,
    ) -> Sequence[Submission]:
        """One bad mutation must not take others with it: each is committed alone."""
        if len(batch) > 1:
            return await self._commit_parts(connection, [[one] for one in batch], lock=lock)
        (submission,) = batch
        if submission.size == 1 and isinstance(error, _NotProjected):
            (event,) = submission.events
            submission.recorded = [EventDecision(event, "rejected", error.problem)]
            if not submission.answer.done():
                submission.answer.set_result([])
            return ()
        if submission.size == 1:
            key = submission.mutations[0].key if submission.mutations else "an event"
            log.error("mutation failed", key=key, exc_info=error)
            _fail(batch, SynclineError(Code.INTERNAL, "The service's log says why."))
            return ()
        submission.recorded, submission.seqs = [], None
        decisions: list[Decision] = []
        for alone in _apart(submission):
            if await self._commit(connection, [alone], lock=lock):
                # Some of its mutations may be committed: it is not to be decided again as a whole.
                _fail(batch, unavailable())
                return ()
            answer = alone.answer.result()
            if not isinstance(answer, SynclineError):
                decisions += answer
                submission.recorded += alone.recorded
            elif answer.code is Code.INTERNAL:
                if alone.mutations:
                    decisions.append(Decision(None, None, problem=answer))
                submission.recorded += [
                    EventDecision(event, "rejected", answer) for event in alone.events
                ]
            else:
                _fail(batch, answer)
                return ()
        if not submission.answer.done():
            submission.answer.set_result(decisions)
        return ()

    async def _commit_with_retries(
        self, connection: KeptConnection, batch: Sequence[Submission], *, lock: bool
    ) -> Answers:
        """A lost connection leaves the commit unknown: the ids that it wrote tell, next time."""
        for attempt in range(RETRIES):
            try:
                return await self._commit_once(connection, batch, lock=lock)
            except Exception as error:
                if is_exhausted(error):
                    if not is_held(error):
                        log.warning("batch cannot be committed", error=repr(error))
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
        for submission in batch:
            submission.era = workspace.era
        return {one: answer for one, answer in answers.items() if one.account in heads}

    async def _attempt(
        self, connection: object, batch: Sequence[Submission], *, lock: bool
    ) -> tuple[Answers, Workspace, dict[str, Head]]:
        """Answers, and the present heads of those accounts for which they are so."""
        accounts = sorted({submission.account for submission in batch})
        # 2. Read the account heads: what is decided is so as long as they do not change.
        heads = await self._heads(connection, accounts, lock=lock)
        # 3. Read the documents, the bases, the seen ids, as far as they are not kept in memory.
        workspace = await self._gathering.gather(connection, accounts, heads, batch)
        # 4. Decide each mutation and event in memory.
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
                before, absent = workspace.heads[account], workspace.still_absent(account)
                self._cache.keep(account, before, heads[account], documents, absent)
            else:
                self._cache.forget(account)
        for account, device in workspace.new_devices:
            if account in heads:
                self._cache.note(account, device, workspace.now_ms)

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
        if submission.checks_fork and forked(submission, workspace):
            return SynclineError(
                Code.DEVICE_FORKED,
                "This local store is a copy of another: take a new random device id, and send "
                "the same mutations again under it.",
            )
        behind = submission.checks_fork and is_behind(submission, workspace)
        before = workspace.seqs[submission.account]
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
        submission.recorded = self._record(submission, workspace)
        submission.seqs = (before, workspace.seqs[submission.account])
        return decisions

    def _record(self, submission: Submission, workspace: Workspace) -> list[EventDecision]:
        """Decides the events, and lets them change the documents of the service's own."""
        if not submission.events:
            return []
        account, ledger = submission.account, workspace.ledger
        recorded, steps = ledger.decide(account, submission.events)
        if all(one.outcome != "accepted" for one in recorded):
            return recorded
        projections = [(TOTALS, totals_of(ledger.shown(account)))]
        if steps:
            projections.append((PROFILE, profile_with(steps)))
        for key, projection in projections:
            mutation = project_mutation(key, projection, workspace.now_ms)
            decision = self._decide_one(account, mutation, workspace)
            if decision.problem is not None:
                # No event is accepted whose effect is not to be seen: each is tried alone.
                raise _NotProjected(key, decision.problem)
            workspace.record(account, mutation, decision, numbered=False)
        return recorded

    def _decide_one(self, account: str, mutation: Mutation, workspace: Workspace) -> Decision:
        current = workspace.documents.get((account, mutation.key))
        if mutation.id is not None:
            accepted = workspace.seen.get((account, mutation.id))
            if accepted is not None and accepted.digest == mutation.digest:
                return Decision("duplicate", current)
            if accepted is not None:
                detail = "This id was used for another mutation: give each its own random id."
                return Decision(None, current, problem=SynclineError(Code.ID_REUSED, detail))
        if mutation.key in SERVER_OWNED and mutation.op in BY_CLIENTS:
            return Decision(None, current, problem=_server_owned(mutation.key))
        limit = self._settings.max_documents
        makes_one = current is None and mutation.op in ("put", "patch", "import")
        if makes_one and workspace.counts.get(account, 0) >= limit:
            detail = f"An account may have {limit} documents: put more into each."
            problem = SynclineError(Code.TOO_MANY_DOCUMENTS, detail, limit=limit)
            return Decision(None, current, problem=problem)
        rule = self._registry.rule_for(mutation.key)
        past = workspace.past(account)
        return decide(mutation, rule, current, past, self._settings.limits, workspace.now_ms)


def _by_account(batch: Sequence[Submission]) -> list[list[Submission]]:
    parts: dict[str, list[Submission]] = {}
    for submission in batch:
        parts.setdefault(submission.account, []).append(submission)
    return list(parts.values())


def _apart(submission: Submission) -> Iterator[Submission]:
    """Each mutation and each event of a submission in one of its own."""
    account, device = submission.account, submission.device
    for index, mutation in enumerate(submission.mutations):
        alone = Submission(account, [mutation], device, numbered=submission.numbered)
        if index == 0:
            alone.after, alone.of_this_era = submission.after, submission.of_this_era
            alone.checks_fork, alone.previous = submission.checks_fork, submission.previous
            alone.together = submission.mutations
        yield alone
    for event in submission.events:
        yield Submission(account, [], device, events=[event])


def _server_owned(key: str) -> SynclineError:
    return SynclineError(
        Code.SERVER_OWNED,
        f"The service computes {key!r} from events, so no client writes it: record an event "
        "instead.",
    )


def _fail(batch: Sequence[Submission], error: SynclineError) -> None:
    for submission in batch:
        if not submission.answer.done():
            submission.answer.set_result(error.as_value())


def _fail_all(batch: Sequence[Submission], error: Exception) -> None:
    _fail(batch, SynclineError(Code.INTERNAL, f"The log says why: {type(error)}."))
