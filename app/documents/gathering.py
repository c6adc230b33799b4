"""What a batch needs to know before it decides: step 3 of the life of a write.

All by arrays: a batch of any size costs the same statements. What this process decided last, and
under the very heads that the accounts still have, it holds in memory and need not ask for.
"""

from collections.abc import Iterable, Sequence

from app.clock import Clock
from app.documents import store
from app.documents.cache import Cache, Head, Kept
from app.documents.model import Mutation, Snapshot
from app.documents.submission import Submission
from app.documents.workspace import Workspace
from app.ledger import store as ledger_store
from app.ledger.model import Event
from app.ledger.profile import EVENT_DOCUMENTS, PLAYER
from app.ledger.work import LedgerWork, is_listed, reading
from app.metering import WriteMeter
from merge_rules.registry import Registry


class Gathering:
    """Reads documents, bases, seen ids, and what events concern, into a workspace."""

    def __init__(
        self, registry: Registry, cache: Cache, clock: Clock, history: int, meter: WriteMeter
    ) -> None:
        self._registry = registry
        self._cache = cache
        self._clock = clock
        self._history = history
        self._meter = meter

    async def gather(
        self,
        connection: object,
        accounts: Sequence[str],
        heads: dict[str, Head],
        batch: Sequence[Submission],
    ) -> Workspace:
        """All that the mutations and events of a batch refer to, as these heads have it."""
        events = [(one.account, event) for one in batch for event in one.events]
        asked = [(one.account, mutation) for one in batch for mutation in one.mutations]
        sent = [*asked, *((one.account, other) for one in batch for other in one.together)]
        ids = [(account, one.id) for account, one in sent if one.id is not None]
        ids += [(one.account, one.previous) for one in batch if one.previous is not None]
        devices = [(one.account, one.device) for one in batch if one.numbered and one.device]
        workspace = Workspace(
            history=self._history,
            now_ms=self._clock(),
            former_rule=self._registry.made_by,
            noted=self._cache.noted,
            heads=heads,
            seqs={account: head.seq for account, head in heads.items()},
            kept={},
            seen=await store.read_seen(connection, accounts, set(ids)) if ids else {},
            devices=(
                await store.read_devices(connection, accounts, set(devices)) if devices else {}
            ),
        )
        written = {(account, one.key) for account, one in asked}
        read = {(account, key) for account, _ in events for key in EVENT_DOCUMENTS}
        wanted = written | read
        workspace.kept = self._kept(heads, wanted)
        await self._read_documents(connection, accounts, workspace, wanted, written)
        await self._read_histories(connection, accounts, workspace, asked)
        workspace.ledger = await self._read_ledger(connection, workspace, events)
        return workspace

    async def _read_ledger(
        self, connection: object, workspace: Workspace, events: Sequence[tuple[str, Event]]
    ) -> LedgerWork:
        if not events:
            return LedgerWork(workspace.now_ms)
        ledger = await ledger_store.read(connection, reading(events), workspace.now_ms)
        for account in {account for account, _ in events}:
            player = workspace.documents.get((account, PLAYER))
            ledger.listed[account] = is_listed(None if player is None else player.stored.value)
        return ledger

    def _kept(
        self, heads: dict[str, Head], wanted: Iterable[store.DocumentId]
    ) -> dict[tuple[str, str], Kept]:
        """The documents that are in memory as they were with these very heads."""
        kept = {}
        for name, key in wanted:
            account = self._cache.account(name)
            if account is not None and account.head == heads[name]:
                document = account.documents.get(key)
                if document is not None:
                    kept[name, key] = document
        return kept

    async def _read_documents(
        self,
        connection: object,
        accounts: Sequence[str],
        workspace: Workspace,
        wanted: set[store.DocumentId],
        written: set[store.DocumentId],
    ) -> None:
        workspace.documents = {id: kept.document for id, kept in workspace.kept.items()}
        unknown = wanted - workspace.documents.keys() - self._absent(workspace.heads, wanted)
        self._meter.cache_hits += len(wanted) - len(unknown)
        self._meter.cache_misses += len(unknown)
        if unknown:
            found = await store.read_documents(connection, accounts, unknown)
            workspace.documents |= found
        missing = wanted - workspace.documents.keys()
        workspace.absent = {id for id in missing if id[1] in EVENT_DOCUMENTS}
        new = {account for account, key in missing if (account, key) in written}
        if new:
            workspace.counts = await store.count_documents(connection, sorted(new))

    def _absent(
        self, heads: dict[str, Head], wanted: Iterable[store.DocumentId]
    ) -> set[store.DocumentId]:
        """What is known not to be there, with these very heads."""
        absent = set()
        for name, key in wanted:
            account = self._cache.account(name)
            if account is not None and account.head == heads[name] and key in account.absent:
                absent.add((name, key))
        return absent

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
            history = self._history
            workspace.bases |= await store.read_bases(connection, accounts, bases, history)
        if begun:
            found = await store.read_bases(connection, accounts, begun, self._history)
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


def _needs_own(mutation: Mutation, current: Snapshot) -> bool:
    """Whether the device may have written past the base, so that its own view counts."""
    return mutation.op == "patch" or (mutation.op == "put" and mutation.base != current.version)
