"""The server of the design in memory: `current ⊔ delta(base ⊔ own, value)`."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from merge_rules.refusal import Refusal
from merge_rules.rule import Operation, State
from merge_rules.stamp import Stamp
from merge_rules.verification.exact import same
from merge_rules.verification.story import Law, Violation, shown
from merge_rules.verification.watched import Watched

DELTA_SUFFICES = Law("delta", "what a write changed, joined to the document, is all of the write")


class Merging(Protocol):
    """What of a rule a server needs; a rule under examination has it as well."""

    @property
    def bottom(self) -> State: ...

    def join(self, a: State, b: State) -> State: ...
    def delta(self, base: State, value: Any, stamp: Stamp) -> State: ...
    def operate(self, state: State, operation: Operation, path: Any, stamp: Stamp) -> State: ...


@dataclass
class Own:
    """What a device's last accepted write proposed, and the version that it made."""

    state: State
    version: int


@dataclass
class Server:
    """The versions of one document, and what each device proposed last."""

    rule: Merging
    versions: list[State]
    own: dict[str, Own] = field(default_factory=dict)
    proposed: list[State] = field(default_factory=list)

    @property
    def current(self) -> State:
        return self.versions[-1]

    @property
    def version(self) -> int:
        return len(self.versions) - 1

    def base(self, device: str, version: int) -> State:
        """The base of a write: the version that the device saw, with its own view."""
        own = self.own.get(device)
        base = self.versions[version]
        return self.rule.join(base, own.state) if own and version < own.version else base

    def put(self, device: str, version: int, value: Any, stamp: Stamp) -> None:
        base = self.base(device, version)
        self._accept(device, base, self.rule.delta(base, value, stamp))

    def patch(self, device: str, operation: Operation, stamp: Stamp) -> bool:
        """An operation on the current document; False if it was refused and changed nothing."""
        try:
            delta = self.rule.operate(self.current, operation, operation.path, stamp)
        except Refusal:
            return False
        self._accept(device, self.current, delta)
        return True

    def _accept(self, device: str, base: State, delta: State) -> None:
        proposed = self.rule.join(base, delta)
        merged = self.rule.join(self.current, delta)
        whole = self.rule.join(self.current, proposed)
        if not same(merged, whole):
            lines = [
                f"device {device} proposed {shown(proposed)}, and of it changed {shown(delta)}",
                f"{shown(self.current)} joined with the change is {shown(merged)}",
                f"joined with all that was proposed it is {shown(whole)}",
            ]
            if isinstance(self.rule, Watched):
                raise self.rule.violation(DELTA_SUFFICES, *lines)
            raise Violation(DELTA_SUFFICES, lines)
        if not same(merged, self.current):
            self.versions.append(merged)
        self.proposed.append(proposed)
        self.own[device] = Own(proposed, self.version)
