"""What the write path speaks of: documents at a version, mutations, decisions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from app.documents.types import Outcome
from app.errors import SynclineError
from merge_rules.receipt import Receipt
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.stamp import Stamp
from merge_rules.state import Stored


@dataclass(slots=True)
class Snapshot:
    """A document at one version. A tombstone stores no value."""

    key: str
    version: int
    epoch: int
    epoch_version: int
    """The version at which the epoch began: a write on an older base had not seen it begin."""
    folded_version: int
    """The version that was last folded: older ones are no bases any more."""
    stored: Stored
    rule: str
    device: str | None
    updated_at_ms: int
    base: int | None = field(default=None, compare=False)
    """What the write that made this version named; known of revisions and of new versions."""
    state: State = field(default=ABSENT, repr=False, compare=False)
    """Kept once it was decoded."""
    writers: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """The devices of the last versions up to this one, as far as they are known; "" for none."""

    @property
    def deleted(self) -> bool:
        return self.stored.value is None


@dataclass(slots=True)
class Own:
    """What a device's last accepted write proposed, and the base of that write."""

    version: int
    base: int | None
    proposed: "Proposed"
    rule: str
    state: State = field(default=ABSENT, repr=False, compare=False)
    """Kept once it was decoded."""


@dataclass(slots=True, frozen=True)
class Proposed:
    """What a device's writes contributed, which other states can be joined with."""

    stored: Stored
    copy: Stored | None = None
    """The device's whole copy, where its base was made up from a plain value: it serves the next
    write on that very base and must not be joined, since what is made up would count twice."""


class History(Protocol):
    """The past of the documents that a mutation may refer to."""

    def base(self, key: str, version: int) -> Snapshot | None:
        """The document at an earlier version; None if it is no longer kept."""

    def own(self, key: str, device: str, base: int) -> list[Own]:
        """What the device proposed past the base; the last is enough, more do no harm."""

    def epoch_began(self, current: Snapshot) -> Snapshot | None:
        """The version with which the present epoch began; None if it is no longer kept."""

    def former_rule(self, fingerprint: str) -> Rule | None:
        """A rule that once merged documents here; None if its words cannot be read any more."""


@dataclass(slots=True, frozen=True)
class Horizon:
    """What is folded: edits from before a time, and the counts of devices that are gone."""

    before_ms: int
    alive: frozenset[str]


Projection = Callable[[Rule, State], State]
"""From the rule and the state of a document to the state with what events add to it."""


@dataclass(slots=True)
class Mutation:
    """A change that a device asks for, decoded and checked as far as it can be by itself."""

    op: Literal["put", "patch", "delete", "restore", "fold", "project"]
    key: str
    digest: bytes
    """Of what it asks: the same id with another digest is another mutation."""
    stamp: Stamp
    id: UUID | None = None
    device: str | None = None
    base: int | None = None
    dated: bool = False
    """Whether the device said when the edit was made; if not, it counts as made now."""
    value: Any = ABSENT
    sent: bytes | None = None
    """The canonical bytes of `value`."""
    base_value: Any = ABSENT
    operations: list[Operation] = field(default_factory=list)
    revision: int = 0
    """The version to restore."""
    horizon: "Horizon | None" = None
    """Where to fold."""
    projection: "Projection | None" = None
    """What events add to a document of the service's own."""
    if_match: int | Literal["*"] | None = None
    if_none_match: bool = False
    receipt: bool = False


class Accepted(NamedTuple):
    """A mutation that was accepted: what it asked for, and which of its device's it was."""

    digest: bytes
    number: int | None
    """From 1 on; None where the device does not tell what it knows to be acknowledged."""


class DeviceRecord(NamedTuple):
    """What was accepted from a device: the last mutation, and how many have a number."""

    last: UUID | None = None
    accepted: int = 0


@dataclass(slots=True)
class Decision:
    """The outcome of a mutation, or its problem, and what has to be stored."""

    outcome: Outcome | None
    document: Snapshot | None
    """The document after the mutation; None if there is none."""
    problem: SynclineError | None = None
    base: int | None = None
    """The version that the device's copy came from, its own delete or reset seen."""
    created: bool = False
    change: Literal["none", "sidecar", "version"] = "none"
    """`sidecar`: the value stays, but what is known about it grew."""
    proposed: Proposed | None = None
    """What the device's own view is from now on, where it is not the document itself."""
    receipt: Receipt | None = None
    """Of every merge, and of other writes where it was asked for."""


@dataclass(slots=True, frozen=True)
class Committed:
    """What a batch changed, told once it is committed: hints, since a crash loses them."""

    seqs: Mapping[str, int]
    """The sequence that each account has reached."""
    standings: Sequence[tuple[str, str, int, bool, int]] = ()
    """Accounts on boards: account, board, score, whether it is listed, sequence of the account."""
    listings: Sequence[tuple[str, bool, int]] = ()
    """Accounts that said anew whether they want to be seen on boards, with their sequence."""


@dataclass(slots=True, frozen=True)
class Limits:
    document_bytes: int
    document_keys: int
