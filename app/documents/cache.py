"""Documents that this process has read or written, for as long as nobody else changes them.

The head of an account carries a tag, drawn anew with every change to the account. A batch that
was decided by what is kept here is written only if the head still has the tag that this was
kept under. So no other process, no restore and no fail-over can make it stale unnoticed, and
the next write need not read and decode what the last one decided.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from app.documents.model import Own, Snapshot
from merge_rules.rule import ABSENT
from merge_rules.state import Stored

OVERHEAD_BYTES = 1_024
"""Of an account, a document or an earlier state of one, beside its bytes."""
BASES_KEPT = 2
OWNS_KEPT = 4
DEVICE_NOTED_MS = 60_000
"""A device that does nothing but write is noted once in this time."""
DEVICES_NOTED = 10_000


class Head(NamedTuple):
    """The row of an account that every write changes: its last sequence, and the tag."""

    seq: int
    tag: int


@dataclass(slots=True)
class Kept:
    """A document, and what of its past the last writes on it needed, all as bytes.

    A decoded state takes six times the memory, and decoding it is a small part of a write.
    """

    document: Snapshot
    bases: dict[int, Snapshot] = field(default_factory=dict)
    owns: dict[str, list[Own]] = field(default_factory=dict)
    """By device."""
    size: int = 0
    """In bytes, about."""

    def __post_init__(self) -> None:
        self.size = _without_state(self.document, self.document.stored)
        for base in self.bases.values():
            self.size += _without_state(base, base.stored)
        for owns in self.owns.values():
            for own in owns:
                self.size += _without_state(own, own.proposed.stored)


@dataclass(slots=True)
class KeptAccount:
    head: Head
    documents: dict[str, Kept] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    """Documents that events ask for, and that are not there."""
    size: int = OVERHEAD_BYTES


class Cache:
    """Accounts, the least recently used dropped first."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is kept to by estimate."""
        self._limit = limit_bytes
        self._size = 0
        self._accounts: OrderedDict[str, KeptAccount] = OrderedDict()
        self._devices: dict[tuple[str, str], int] = {}

    @property
    def size(self) -> int:
        """Bytes kept, by estimate."""
        return self._size

    @property
    def accounts(self) -> int:
        return len(self._accounts)

    def account(self, name: str) -> KeptAccount | None:
        return self._accounts.get(name)

    def forget(self, name: str) -> None:
        account = self._accounts.pop(name, None)
        if account is not None:
            self._size -= account.size

    def keep(
        self,
        name: str,
        before: Head,
        after: Head,
        documents: Mapping[str, Kept],
        absent: frozenset[str] = frozenset(),
    ) -> None:
        """Takes in documents that were read or written while the head went from one to another,
        and keys for which there is none."""
        account = self._accounts.get(name)
        if account is None or account.head != before:
            account = KeptAccount(before)
        self.forget(name)
        account.head = after
        for key, kept in documents.items():
            known = account.documents.get(key)
            account.size += kept.size - (0 if known is None else known.size)
            account.documents[key] = kept
        account.absent = (account.absent | absent).difference(account.documents)
        if account.size > self._limit // 4:
            return
        self._accounts[name] = account
        self._size += account.size
        while self._size > self._limit:
            self.forget(next(iter(self._accounts)))

    def noted(self, account: str, device: str, now_ms: int) -> bool:
        """Whether it was written lately that this device writes."""
        at_ms = self._devices.get((account, device))
        return at_ms is not None and 0 <= now_ms - at_ms < DEVICE_NOTED_MS

    def note(self, account: str, device: str, now_ms: int) -> None:
        while len(self._devices) >= DEVICES_NOTED:
            del self._devices[next(iter(self._devices))]
        self._devices[account, device] = now_ms


def _without_state(holder: Snapshot | Own, stored: Stored) -> int:
    """Drops the decoded state; how many bytes are left, about."""
    holder.state = ABSENT
    copy = holder.proposed.copy if isinstance(holder, Own) else None
    copied = 0 if copy is None else len(copy.value or b"") + len(copy.sidecar)
    return OVERHEAD_BYTES + len(stored.value or b"") + len(stored.sidecar) + copied


def last_owns(owns: dict[str, list[Own]]) -> dict[str, list[Own]]:
    """Of what devices proposed, that of the last few."""
    if len(owns) <= OWNS_KEPT:
        return owns
    written = sorted(
        (item for item in owns.items() if item[1]), key=lambda item: item[1][-1].version
    )
    return dict(written[-OWNS_KEPT:])
