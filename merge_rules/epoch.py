"""A rule that can start afresh, although rules only ever move up."""

from collections.abc import Collection, Iterable
from typing import Any

from mypy_extensions import mypyc_attr

from merge_rules.refusal import Path
from merge_rules.rule import Operation, Rule, State
from merge_rules.sidecar import Packed, Sidecar
from merge_rules.stamp import Stamp


@mypyc_attr(allow_interpreted_subclasses=True)
class Resettable(Rule):
    """Another rule with an epoch before it. State: (epoch, the rule's state).

    The operation `reset` raises the epoch. The greater epoch wins whole, so a reset beats every
    edit that had not seen it; within an epoch the other rule joins.
    """

    name = "resettable"

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    @property
    def bottom(self) -> State:
        return (0, self.rule.bottom)

    @property
    def takes(self) -> Collection[str]:  # type: ignore[override]
        return self.rule.takes

    @property
    def shows(self) -> Collection[str]:  # type: ignore[override]
        return self.rule.shows

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        return self.rule.needs_base

    @property
    def needs_base_inside(self) -> bool:
        return self.rule.needs_base_inside

    def check(self, value: Any, path: Path = ()) -> None:
        self.rule.check(value, path)

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return self._within(base, self.rule.delta(base[1], value, stamp))

    def _within(self, state: State, delta: State) -> State:
        return self.bottom if delta == self.rule.bottom else (state[0], delta)

    def apply(self, state: State, delta: State) -> State:
        if delta[0] != state[0]:
            return max(state, delta, key=lambda one: one[0])
        return (state[0], self.rule.apply(state[1], delta[1]))

    def join(self, a: State, b: State) -> State:
        if a[0] != b[0]:
            return max(a, b, key=lambda one: one[0])
        return (a[0], self.rule.join(a[1], b[1]))

    def value(self, state: State) -> Any:
        return self.rule.value(state[1])

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op == "reset" and not path:
            return (state[0] + 1, self.rule.bottom)
        return self._within(state, self.rule.operate(state[1], operation, path, stamp))

    def adopt(self, value: Any, stamp: Stamp) -> State:
        return (0, self.rule.adopt(value, stamp))

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        """A device whose base is not kept is taken to have seen the last reset."""
        return (current[0], self.rule.reconstruct(value, current[1], device))

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        return (state[0], self.rule.fold(state[1], before_ms, alive))

    def stamps(self, state: State) -> Iterable[Stamp]:
        return self.rule.stamps(state[1])

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        packed = self.rule.pack(state[1], value, sidecar)
        return [state[0], packed] if state[0] or packed is not None else None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        epoch, below = packed or (0, None)
        return (epoch, self.rule.unpack(value, below, sidecar))

    def child(self, token: str) -> Rule | None:
        return self.rule.child(token)

    def composed_of(self) -> list[Rule]:
        return [self.rule, *super().composed_of()]

    def describe(self) -> str:
        return f"resettable({self.rule.describe()})"


def resettable(rule: Rule) -> Resettable:
    """A rule whose value an operation `reset` takes back to its beginning."""
    if rule.name == "strict":
        raise ValueError("strict applies to a whole document; it cannot stand inside resettable")
    return Resettable(rule)
