"""Rules that keep one write whole: last write wins, and strict."""

from collections.abc import Collection, Iterable
from typing import Any

from mypy_extensions import mypyc_attr

from merge_rules import plain
from merge_rules.canonical import encode, same
from merge_rules.refusal import Path
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.sidecar import Packed, Sidecar
from merge_rules.stamp import ZERO, Stamp, successor


@mypyc_attr(allow_interpreted_subclasses=True)
class LastWriteWins(Rule):
    """The write with the greatest stamp; equal stamps are decided by the canonical bytes.

    State: (stamp, value), (stamp,) once the value was taken away, None before any write.
    An edit is stamped past the base that it saw, so that a slow clock does not undo it.
    """

    name = "last_write_wins"

    @property
    def needs_base_inside(self) -> bool:
        """Only the base tells a field that was edited from one sent along as it was."""
        return True

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        if base is None:
            return None if value is ABSENT else (stamp, value)
        held = ABSENT if len(base) == 1 else base[1]
        if value is ABSENT:
            if held is ABSENT:
                return None
        elif held is not ABSENT and same(held, value):
            return None
        stamp = max(stamp, successor(base[0], stamp[2]))
        return (stamp,) if value is ABSENT else (stamp, value)

    def join(self, a: State, b: State) -> State:
        if a is None:
            return b
        if b is None:
            return a
        if a[0] != b[0]:
            return a if a[0] > b[0] else b
        return a if _bytes(a) >= _bytes(b) else b

    def value(self, state: State) -> Any:
        return ABSENT if state is None or len(state) == 1 else state[1]

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        """Works on the plain value, so every operation applies, at any depth."""
        return self.delta(state, plain.apply(self.value(state), operation, path), stamp)

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        """A device that saw the value of `current` is taken to have seen its write too.

        So its edit is stamped past that write, and a slow clock does not undo it.
        """
        held = self.value(current)
        if value is ABSENT:
            return current if held is ABSENT else None
        return current if held is not ABSENT and same(held, value) else (ZERO, value)

    def stamps(self, state: State) -> Iterable[Stamp]:
        return () if state is None else state[:1]

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        if state is None or state[0][0] >= before_ms:
            return state
        return None if len(state) == 1 else ((before_ms, 0, ""), state[1])

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        if state is None:
            return None
        if len(state) == 1:
            return [sidecar.pack_stamp(state[0])]
        return sidecar.pack_stamp(state[0])

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        if value is not ABSENT:
            return (sidecar.unpack_stamp(packed), value)
        return None if packed is None else (sidecar.unpack_stamp(packed[0]),)


def _bytes(state: State) -> bytes:
    return b"" if len(state) == 1 else encode(state[1])


@mypyc_attr(allow_interpreted_subclasses=True)
class Strict(Rule):
    """Replaced by a write that saw the current version, refused for every other: no merging.

    A join has no say in the service, which answers 409 instead. It keeps the greater bytes,
    so that linking two accounts still converges.
    """

    name = "strict"
    needs_base = True

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return None if base is not None and same(base[0], value) else (value,)

    def apply(self, state: State, delta: State) -> State:
        return state if delta is None else delta

    def join(self, a: State, b: State) -> State:
        if a is None or b is None:
            return a if b is None else b
        return a if encode(a[0]) >= encode(b[0]) else b

    def value(self, state: State) -> Any:
        return ABSENT if state is None else state[0]

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        value = plain.apply(self.value(state), operation, path)
        if value is not ABSENT:
            return self.delta(state, value, stamp)
        if state is None:
            return None
        raise self.refuse(operation, "delete the document instead")

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        return None if value is ABSENT else (value,)


last_write_wins = LastWriteWins()
strict = Strict()
