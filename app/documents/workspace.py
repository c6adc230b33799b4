"""What one batch has read and what it will write: the memory in which it decides.

A later mutation of the batch sees what an earlier one decided, as if each had been committed
alone.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.documents import store
from app.documents.model import Decision, Mutation, Own, Proposed, Snapshot


@dataclass(slots=True)
class Workspace:
    """The accounts, documents, histories, ids and devices that a batch concerns."""

    history: int
    heads_at_lock: dict[str, int]
    heads: dict[str, int]
    documents: dict[tuple[str, str], Snapshot]
    seen: dict[tuple[str, UUID], bytes]
    devices: dict[tuple[str, str], UUID | None]
    bases: dict[tuple[str, str, int], Snapshot] = field(default_factory=dict)
    owns: dict[tuple[str, str, str], list[Own]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    versions: list[store.Version] = field(default_factory=list)
    touches: dict[tuple[str, str], store.Touch] = field(default_factory=dict)
    proposals: dict[tuple[str, str, str], store.Proposal] = field(default_factory=dict)
    new_seen: list[tuple[str, UUID, str, bytes, int]] = field(default_factory=list)
    new_devices: dict[tuple[str, str], tuple[UUID | None, int]] = field(default_factory=dict)

    def past(self, account: str) -> "Past":
        return Past(self, account)

    def record(self, account: str, mutation: Mutation, decision: Decision, now_ms: int) -> None:
        """Takes in an accepted mutation, so that the next one sees it."""
        base = self._base(account, mutation)
        if decision.change == "version":
            self._add_version(account, mutation, decision, base)
        elif decision.change == "sidecar":
            self._touch(account, decision)
        if decision.change != "version" and decision.proposed is not None and mutation.device:
            self._add_proposal(account, mutation, decision, base, now_ms)
        if mutation.id is not None:
            self.seen[account, mutation.id] = mutation.digest
            self.new_seen.append((account, mutation.id, mutation.key, mutation.digest, now_ms))
        if mutation.device is not None:
            last = mutation.id or self.devices.get((account, mutation.device))
            self.devices[account, mutation.device] = last
            self.new_devices[account, mutation.device] = (last, now_ms)

    def _base(self, account: str, mutation: Mutation) -> int | None:
        """The base that a write names; of a patch only one that is kept.

        A patch on a forgotten base proposes its own change and nothing else, so it must not
        stand for all that the device held there.
        """
        base = mutation.base
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
        self.heads[account] += 1
        self.documents[account, document.key] = document
        self.versions.append(
            store.Version(
                account=account,
                document=document,
                seq=self.heads[account],
                proposed=decision.proposed,
                base=base,
                outcome=decision.outcome,
                mutation=mutation.id,
            )
        )
        if mutation.device is not None:
            proposed = decision.proposed or Proposed(document.stored)
            own = Own(document.version, base, proposed, document.rule)
            self.owns.setdefault((account, document.key, mutation.device), []).append(own)

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
        now_ms: int,
    ) -> None:
        document = decision.document
        assert document is not None
        assert mutation.device is not None
        assert decision.proposed is not None
        own = Own(document.version, base, decision.proposed, document.rule)
        self.owns.setdefault((account, document.key, mutation.device), []).append(own)
        self.proposals[account, document.key, mutation.device] = store.Proposal(
            account, mutation.device, document.key, own, now_ms
        )

    async def write(self, connection: Any) -> None:
        """Writes everything that was decided, one statement a table."""
        if self.touches:
            await store.write_touches(connection, list(self.touches.values()), self.history)
        if self.versions:
            await store.write_versions(connection, self.versions, self.history)
            changed = {version.account for version in self.versions}
            await store.write_heads(connection, {name: self.heads[name] for name in changed})
        if self.proposals:
            await store.write_proposals(connection, list(self.proposals.values()))
        if self.new_seen:
            await store.write_seen(connection, self.new_seen)
        if self.new_devices:
            rows = [(*device, *last) for device, last in self.new_devices.items()]
            await store.write_devices(connection, rows)


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
        return self.workspace.bases.get((self.account, key, version))

    def own(self, key: str, device: str, base: int) -> list[Own]:
        owns = self.workspace.owns.get((self.account, key, device), [])
        return [own for own in owns if own.version > base]
