"""What a device's copy of a document was when it wrote: its base joined with its own writes.

The *own view*: without it a device that queues two writes on one base loses the second one's
undo. Pure, as `decide` is, which alone uses it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.documents.model import History, Mutation, Own, Proposed, Snapshot
from app.errors import Code, SynclineError
from merge_rules.adoption import adopt_state
from merge_rules.canonical import decode as decode_json
from merge_rules.refusal import WrongType, pointer
from merge_rules.rule import ABSENT, Rule, State
from merge_rules.state import Stored, decode, encode


@dataclass(slots=True)
class OwnView:
    """The past of one document, as the device of one mutation stands to it."""

    mutation: Mutation
    rule: Rule
    current: Snapshot
    history: History
    now_ms: int

    @property
    def base(self) -> int | None:
        """The base that was named, or the beginning of the epoch where the device itself began it.

        Offline it cannot know the version that its own delete or reset will have.
        """
        base, current = self.mutation.base, self.current
        if base is None or base >= current.epoch_version:
            return base
        began = self.history.epoch_began(current)
        if began is None or began.device is None or began.device != self.mutation.device:
            return base
        return current.epoch_version if base >= (began.base or 0) else base

    @property
    def base_unknown(self) -> bool:
        return self.mutation.base is None or self.mutation.base > self.current.version

    def known(self) -> State | None:
        """The state of the device's copy; None if its base is not known."""
        base = self.base
        if base is None or base > self.current.version:
            return None
        state = None if self._is_folded_beginning(base) else self.base_state(base)
        if state is not None:
            return self._join_own(state, base)
        own = self._own_on_this_base()
        if own is None or own.proposed.copy or own.version <= self.current.folded_version:
            return None
        return self._own_state(own)

    def _is_folded_beginning(self, base: int) -> bool:
        """Whether nothing was there, and the device has written on that nothing since.

        Once the document is folded, what it wrote may be in the common entry: it cannot be joined.
        """
        return base == 0 and self.current.folded_version > 0 and bool(self._owns(base))

    def made_up(self) -> State | None:
        """What the copy is taken for where its base is not kept; None if nothing tells.

        It serves `delta` and must never be joined.
        """
        own, value = self._own_on_this_base(), self.mutation.base_value
        if own is not None:
            copy = own.proposed.copy or own.proposed.stored
            state = self.decode(copy, own.rule, self.now_ms)
            if own.version > self.current.folded_version:
                return state
            value = self.rule.value(state)  # its counts may be folded into the common entry
        elif value is ABSENT:
            return None
        else:
            self.rule.check(value)
        return self.rule.reconstruct(value, self.state(self.current), self.mutation.device or "")

    def chain(self) -> State:
        """What the device is known to have proposed since its base, or since the epoch began."""
        since = 0 if self.base is None or self.base_unknown else self.base
        return self._join_own(self.rule.bottom, max(since, self.current.folded_version))

    def proposed(self, changed: State, delta: State, *, known: bool) -> Proposed:
        """What the device proposes whose copy a delta has changed; it may be joined if the copy
        was known."""
        copy = encode(self.rule, changed)
        if known:
            return Proposed(copy)
        chain = encode(self.rule, self.rule.join(self.chain(), delta))
        return Proposed(chain, None if self.base is None else copy)

    def base_state(self, base: int) -> State | None:
        """The state of the version that the device named; None if it is no longer kept."""
        if base == 0:
            return self.rule.bottom
        snapshot = self.history.base(self.current.key, base)
        return None if snapshot is None else self.state(snapshot)

    def _own_on_this_base(self) -> Own | None:
        """The device's last write, if it was made on this very base: it proposed all it held."""
        owns = [] if self.base is None else self._owns(self.base)
        return owns[-1] if owns and owns[-1].base == self.base else None

    def _owns(self, since: int) -> list[Own]:
        device, current = self.mutation.device, self.current
        if device is None:
            return []
        # What it proposed before the epoch began belongs to a document that is no more.
        return self.history.own(current.key, device, max(since, current.epoch_version))

    def _join_own(self, state: State, since: int) -> State:
        for own in self._owns(since):
            state = self.rule.join(state, self._own_state(own))
        return state

    def _own_state(self, own: Own) -> State:
        if own.state is ABSENT:
            own.state = self.decode(own.proposed.stored, own.rule, self.now_ms)
        return own.state

    def state(self, snapshot: Snapshot) -> State:
        if snapshot.state is ABSENT:
            snapshot.state = (
                self.rule.bottom
                if snapshot.deleted
                else self.decode(snapshot.stored, snapshot.rule, snapshot.updated_at_ms)
            )
        return snapshot.state

    def decode(self, stored: Stored, made_by: str, at_ms: int) -> State:
        return decode_state(self.rule, self.history.former_rule, stored, made_by, at_ms)


def decode_state(
    rule: Rule,
    former_rule: Callable[[str], Rule | None],
    stored: Stored,
    made_by: str,
    at_ms: int,
) -> State:
    """The state; where another rule made it, adopted from that one or from its plain value.

    `made_by` is the fingerprint of the rule that made it, `at_ms` when. Raises RULE_MISMATCH.
    """
    if made_by == rule.fingerprint:
        return decode(rule, stored)
    at = (at_ms, 0, "")
    former = former_rule(made_by)
    try:
        if former is not None:
            return adopt_state(former, decode(former, stored), rule, at)
        if stored.value is None:
            return rule.bottom
        value = decode_json(stored.value)
        rule.check(value)
        return rule.adopt(value, at)
    except WrongType as refusal:
        raise SynclineError(
            Code.RULE_MISMATCH,
            f"The stored document does not fit the rule that it has now: {refusal}. Delete "
            "it and write it afresh, or ask the operator to go back to the earlier rule.",
            path=pointer(refusal.path),
        ) from refusal
