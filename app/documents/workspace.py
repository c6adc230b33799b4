"""What one batch has read and what it will write: the memory in which it decides.

A later mutation of the batch sees what an earlier one decided, as if each had been committed
alone.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from struct import unpack
from typing import Any
from uuid import UUID

from app.documents import store
from app.documents.cache import BASES_KEPT, Head, Kept, last_owns
from app.documents.model import (
    FOR_GOOD_MS,
    Accepted,
    Committed,
    Decision,
    DeviceRecord,
    Mutation,
    Own,
    Proposed,
    Snapshot,
)
from app.ledger.profile import PLAYER, SERVER_OWNED
from app.ledger.work import LedgerWork
from merge_rules.rule import Rule


def _new_tags(count: int) -> tuple[int, ...]:
    """Random from the system, so that no two processes draw the same."""
    return unpack(f"{count}q", secrets.token_bytes(8 * count))


@dataclass(slots=True)
class Workspace:
    """The accounts, documents, histories, ids and devices that a batch concerns."""

    history: int
    now_ms: int
    former_rule: Callable[[str], Rule | None]
    noted: Callable[[str, str, int], bool]
    """Whether it was written lately that a device writes."""
    heads: dict[str, Head]
    """Of every account, as they were before anything was read."""
    seqs: dict[str, int]
    kept: dict[tuple[str, str], Kept]
    """The documents that were in memory."""
    seen: dict[tuple[str, UUID], Accepted]
    devices: dict[tuple[str, str], DeviceRecord]
    documents: dict[tuple[str, str], Snapshot] = field(default_factory=dict)
    absent: set[tuple[str, str]] = field(default_factory=set)
    """Documents that events ask for, and that were not there."""
    bases: dict[tuple[str, str, int], Snapshot] = field(default_factory=dict)
    owns: dict[tuple[str, str, str], list[Own]] = field(default_factory=dict)
    """What each device last proposed for a document, in the order of versions."""
    made: dict[tuple[str, UUID], tuple[str | None, Own]] = field(default_factory=dict)
    """What mutations proposed that were accepted before, and on which device."""
    began: dict[tuple[str, str], Snapshot] = field(default_factory=dict)
    """The versions with which the present epochs began, their `base` known."""
    counts: dict[str, int] = field(default_factory=dict)
    era: str | None = None
    """Of the database, once this is written."""
    with_past: set[tuple[str, str]] = field(default_factory=set)
    """Documents that were written on anything but their current version."""

    versions: list[store.Version] = field(default_factory=list)
    touches: dict[tuple[str, str], store.Touch] = field(default_factory=dict)
    proposals: dict[tuple[str, str, str], store.Proposal] = field(default_factory=dict)
    ledger: LedgerWork = field(default_factory=lambda: LedgerWork(0))
    """What the events of the batch concern."""
    new_seen: list[tuple[str, UUID, str, bytes, int | None, int]] = field(default_factory=list)
    new_devices: set[tuple[str, str]] = field(default_factory=set)

    def past(self, account: str) -> "Past":
        return Past(self, account)

    def record(
        self, account: str, mutation: Mutation, decision: Decision, *, numbered: bool
    ) -> None:
        """Takes in an accepted mutation, so that the next one sees it."""
        base = self._base(account, mutation, decision.base)
        if decision.change == "version":
            self._add_version(account, mutation, decision, base)
        elif decision.change == "sidecar":
            self._touch(account, decision)
        if decision.change != "version" and decision.proposed is not None and mutation.device:
            self._add_proposal(account, mutation, decision, base)
        number = None
        if mutation.device is not None and mutation.op != "import":
            last, accepted = self.devices.get((account, mutation.device), DeviceRecord())
            if numbered and mutation.id is not None:
                number = accepted = accepted + 1
            self.devices[account, mutation.device] = DeviceRecord(mutation.id or last, accepted)
            if mutation.id is not None or not self.noted(account, mutation.device, self.now_ms):
                self.new_devices.add((account, mutation.device))
        if mutation.id is not None:
            seen = Accepted(mutation.digest, number)
            self.seen[account, mutation.id] = seen
            seen_ms = FOR_GOOD_MS if mutation.op == "import" else self.now_ms
            self.new_seen.append((account, mutation.id, mutation.key, *seen, seen_ms))

    def inherit(self, account: str, mutation: Mutation) -> None:
        """Takes what a duplicate proposed on another device into the view of this one.

        A local store that was copied holds the edits of the original; under its new device id
        it sends them again, and builds on them.
        """
        assert mutation.id is not None
        device, own = self.made.get((account, mutation.id), (None, None))
        if own is None or mutation.device is None or mutation.device == device:
            return
        if own.proposed.copy is not None:
            # Made up for the other device: its counts stand for this one's too, and would hide
            # them. So this one has to say what it had.
            own = replace(own, base=None, proposed=Proposed(own.proposed.stored))
        id = (account, mutation.key, mutation.device)
        self.owns[id] = sorted([*self.owns.get(id, []), own], key=lambda one: one.version)
        self.proposals[id] = store.Proposal(
            account, mutation.device, mutation.key, own, mutation.id, self.now_ms
        )

    def _base(self, account: str, mutation: Mutation, base: int | None) -> int | None:
        """The base that a write names; of a patch only one that is kept.

        A patch on a forgotten base proposes its own change and nothing else, so it must not
        stand for all that the device held there.
        """
        if mutation.op == "patch" and base and self.past(account).base(mutation.key, base) is None:
            return None
        return base

    def _add_version(
        self, account: str, mutation: Mutation, decision: Decision, base: int | None
    ) -> None:
        document = decision.document
        assert document is not None
        assert decision.outcome is not None
        before = self.documents.get((account, document.key))
        if before is None:
            self.counts[account] = self.counts.get(account, 0) + 1
        else:
            self.bases[account, document.key, before.version] = before
        earlier = () if before is None else before.writers
        writer = document.device or ""
        if before is not None and before.device == writer:
            writer = before.device  # one string for all the versions of a device
        document.writers = (*earlier, writer)[-self.history - 1 :]
        self.seqs[account] += 1
        document.base = base
        if document.epoch_version == document.version:
            self.began[account, document.key] = document
        self.documents[account, document.key] = document
        self.bases[account, document.key, document.version] = document
        if document.key == PLAYER:
            self.ledger.relist(account, document.stored.value)
        self.versions.append(
            store.Version(
                account=account,
                document=document,
                seq=self.seqs[account],
                proposed=decision.proposed,
                receipt=decision.receipt if decision.outcome == "merged" else None,
                base=base,
                outcome=decision.outcome,
                mutation=mutation.id,
            )
        )
        if mutation.device is not None:
            proposed = decision.proposed or Proposed(document.stored)
            self.owns[account, document.key, mutation.device] = [
                Own(document.version, base, proposed, document.rule)
            ]

    def _touch(self, account: str, decision: Decision) -> None:
        document = decision.document
        assert document is not None
        before = self.documents[account, document.key]
        self.documents[account, document.key] = document
        for version in self.versions:
            if version.document is before:
                version.document = document
                version.proposed = version.proposed or Proposed(before.stored)
                return
        earlier = self.touches.get((account, document.key))
        self.touches[account, document.key] = store.Touch(
            account=account,
            document=document,
            before=earlier.before if earlier else before.stored,
            before_rule=earlier.before_rule if earlier else before.rule,
        )

    def _add_proposal(
        self,
        account: str,
        mutation: Mutation,
        decision: Decision,
        base: int | None,
    ) -> None:
        document = decision.document
        assert document is not None
        assert mutation.device is not None
        assert decision.proposed is not None
        own = Own(document.version, base, decision.proposed, document.rule)
        id = (account, document.key, mutation.device)
        self.owns[id] = [own]
        self.proposals[id] = store.Proposal(
            account, mutation.device, document.key, own, mutation.id, self.now_ms
        )

    async def write(self, connection: Any) -> dict[str, Head]:
        """Writes everything that was decided, in one statement.

        The heads that the accounts have now; those are left out that were not as they were when
        this began: of them nothing is written, and nothing that was decided is so.
        """
        if self.versions:
            await self._keep_last_proposals(connection)
        changed = {version.account for version in self.versions}
        others = (self.touches, self.proposals, self.new_seen, self.new_devices)
        changed.update(id[0] for ids in others for id in ids)
        changed.update(event[0] for event in self.ledger.new_events)
        # In order, as locks are taken elsewhere: else two processes could wait for each other.
        after = {
            account: Head(self.seqs[account], tag)
            for account, tag in zip(sorted(changed), _new_tags(len(changed)), strict=True)
        }
        changes = store.Changes(
            before=self.heads,
            after=after,
            versions=self.versions,
            touches=list(self.touches.values()),
            proposals=list(self.proposals.values()),
            seen=self.new_seen,
            devices=[(*id, *self.devices[id], self.now_ms) for id in sorted(self.new_devices)],
            ledger=self.ledger,
        )
        confirmed, self.era = await store.write(connection, changes, self.history)
        return {account: after.get(account, self.heads[account]) for account in confirmed}

    async def _keep_last_proposals(self, connection: Any) -> None:
        """What a device last proposed outlives the revision that it made."""
        newest = {(one.account, one.document.key): one.document.version for one in self.versions}
        kept = []
        for version in self.versions:
            document = version.document
            if document.version > newest[version.account, document.key] - self.history:
                kept.append(version)
                continue
            id = (version.account, document.key, document.device or "")
            own = self.owns[id][-1] if id in self.owns else None
            if own is not None and own.version == document.version:
                self.proposals[id] = store.Proposal(
                    id[0], id[2], id[1], own, version.mutation, self.now_ms
                )
        full = [version for version in kept if self._may_evict(version.document)]
        if not full:
            return
        for evicted in await store.read_evicted(connection, full, self.history, self.now_ms):
            id = (evicted.account, evicted.key, evicted.device)
            self.proposals.setdefault(id, evicted)

    def _may_evict(self, document: Snapshot) -> bool:
        """Whether the place of a version may have been that of the last one of some device."""
        if document.version <= self.history or document.key in SERVER_OWNED:
            return False  # no device writes what the service computes
        known, writers = len(document.writers) > self.history, document.writers
        return not known or (writers[0] != "" and writers[0] not in writers[1:])

    def committed(self, heads: Mapping[str, Head]) -> Committed:
        """What changed in the accounts whose present heads these are."""
        changed = {version.account for version in self.versions}
        seqs = {name: heads[name].seq for name in changed if name in heads}
        ledger = self.ledger
        return Committed(
            seqs,
            [(*one, seqs[one[0]]) for one in ledger.standings() if one[0] in seqs],
            [(name, ledger.listed[name], seqs[name]) for name in ledger.relisted if name in seqs],
        )

    def still_absent(self, account: str) -> frozenset[str]:
        """Keys of the documents that events asked for and that are not there by now."""
        return frozenset(
            key for name, key in self.absent - self.documents.keys() if name == account
        )

    def to_keep(self) -> dict[str, dict[str, Kept]]:
        """By account and key, what the next batch may need of what this one holds."""
        owns: dict[tuple[str, str], dict[str, list[Own]]] = {}
        for (account, key, device), proposed in self.owns.items():
            owns.setdefault((account, key), {})[device] = proposed
        kept: dict[str, dict[str, Kept]] = {}
        for id, document in self.documents.items():
            account, key = id
            known, bases = self.kept.get(id), {}
            if id in self.with_past:
                versions = range(document.version - 1, document.version - 1 - BASES_KEPT, -1)
                found = ((version, self.bases.get((account, key, version))) for version in versions)
                bases = {version: base for version, base in found if base is not None}
            by_device = {**(known.owns if known else {}), **owns.get(id, {})}
            kept.setdefault(account, {})[key] = Kept(document, bases, last_owns(by_device))
        return kept


@dataclass(slots=True)
class Past:
    """The histories of one account's documents, as `decide` asks for them."""

    workspace: Workspace
    account: str

    def base(self, key: str, version: int) -> Snapshot | None:
        current = self.workspace.documents.get((self.account, key))
        if current is None or version <= current.version - self.workspace.history:
            return None
        if version == current.version:
            return current
        if version < current.folded_version:
            return None
        return self.workspace.bases.get((self.account, key, version))

    def own(self, key: str, device: str, base: int) -> list[Own]:
        owns = self.workspace.owns.get((self.account, key, device), [])
        return [own for own in owns if own.version > base]

    def epoch_began(self, current: Snapshot) -> Snapshot | None:
        began = self.workspace.began.get((self.account, current.key))
        return began if began is not None and began.version == current.epoch_version else None

    def former_rule(self, fingerprint: str) -> Rule | None:
        return self.workspace.former_rule(fingerprint)
