"""What the model server holds of an account: documents with their past, and who sent what."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from merge_rules.adoption import adopt_state
from merge_rules.canonical import encode
from merge_rules.rule import Rule, State
from merge_rules.stamp import ZERO
from merge_rules.state import encode as encode_state
from tests.simulation.ledger import Ledger
from tests.simulation.server import HISTORY


@dataclass(slots=True, frozen=True)
class Own:
    """What a device's last accepted write proposed, before it was joined with others."""

    version: int
    base: int | None
    proposed: State
    copy: State
    """The whole copy of the device; where its base was made up it is more than was proposed."""
    made_up: bool = False


@dataclass(slots=True)
class Document:
    """A document at its current version; a tombstone holds the bottom state."""

    rule: Rule
    version: int = 0
    seq: int = 0
    epoch_version: int = 0
    folded: int = 0
    """The version that was folded last: what was known of older ones cannot be joined any more."""
    deleted: bool = True
    state: State = None
    beside: int = 0
    """The bytes that it took to store what is known beside the value, by the rule of that time."""
    kept: dict[int, State] = field(default_factory=dict)
    began: tuple[str, int | None] = ("", None)
    """The device that deleted it last, and the base of that."""
    owns: dict[str, dict[str, Own]] = field(default_factory=dict)
    """By device, then by mutation. The last one is enough, more do no harm."""

    def value(self) -> bytes:
        return b"null" if self.deleted else encode(self.rule.value(self.state))

    def plain(self) -> Any:
        return None if self.deleted else self.rule.value(self.state)

    def shows(self, state: State) -> bool:
        """Whether this state has the same value."""
        return encode(self.rule.value(state)) == self.value()

    def keep(self) -> None:
        """The present version becomes part of the history, and the oldest leaves it."""
        self.kept[self.version] = self.state
        self.kept.pop(self.version - HISTORY, None)

    def adopt(self, rule: Rule) -> None:
        """Each state by itself becomes one of this rule; here none needs a time for it."""

        def adopted(state: State) -> State:
            return adopt_state(self.rule, state, rule, ZERO)

        self.state = adopted(self.state)
        self.kept = {version: adopted(state) for version, state in self.kept.items()}
        for owns in self.owns.values():
            for mutation, own in owns.items():
                owns[mutation] = replace(
                    own, proposed=adopted(own.proposed), copy=adopted(own.copy)
                )
        self.rule = rule

    def fork(self) -> "Document":
        owns = {device: dict(own) for device, own in self.owns.items()}
        return replace(self, kept=dict(self.kept), owns=owns)


@dataclass(slots=True)
class Account:
    """One sequence of changes, and what was accepted from whom."""

    seq: int = 0
    documents: dict[str, Document] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    sent: dict[str, list[str]] = field(default_factory=dict)
    """By device, the mutations accepted from it, in order."""
    wrote: dict[str, int] = field(default_factory=dict)
    """By device, when it last wrote: who is alive."""
    accepted: set[str] = field(default_factory=set)
    """As `seen`, for the harness: no planted bug touches it."""
    ledger: Ledger = field(default_factory=Ledger)

    def fork(self, keys: Collection[str] | None = None) -> "Account":
        """A copy to be changed; of its documents only these, if any are named."""
        return Account(
            self.seq,
            {
                key: document.fork() if keys is None or key in keys else document
                for key, document in self.documents.items()
            },
            set(self.seen),
            {device: list(ids) for device, ids in self.sent.items()},
            dict(self.wrote),
            set(self.accepted),
            self.ledger.fork(),
        )


def size_beside(rule: Rule, state: State) -> int:
    """The bytes that it takes to store what is known beside the value."""
    return len(encode_state(rule, state).sidecar)
