"""A number that every device adds to: no increment is lost, none counts twice."""

from collections.abc import Collection
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from merge_rules.canonical import MAX_INTEGER
from merge_rules.refusal import DeviceRequired, Path, WrongType
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.sidecar import Packed, Sidecar
from merge_rules.stamp import Stamp

UNKNOWN_DEVICE = ""
"""The entry of whatever was counted before this state was kept; no device has this name."""
IMPORTED = "import/"
"""How the entries of imports begin; no device has such a name either."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Counter(Rule):
    """A PN-counter with one entry a device (Shapiro et al. 2011, specification 7).

    State: {device: (writes, sum)}. Only the device itself writes its entry, so the entry with
    more writes is the newer one. The value is held within the integers that JSON can carry.
    """

    name = "counter"
    takes = ("number",)
    shows = ("number",)
    bottom: ClassVar[State] = {}
    needs_base = True

    def check(self, value: Any, path: Path = ()) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise WrongType(path, "a counter takes an integer")

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return self._add(base, value - self.value(base), stamp[2], ())

    def _add(self, base: State, amount: int, device: str, path: Path) -> State:
        if amount == 0:
            return self.bottom
        if device == UNKNOWN_DEVICE:
            raise DeviceRequired(path, "a counter counts per device: send `device`")
        writes, total = base.get(device, (0, 0))
        if abs(total + amount) > MAX_INTEGER:
            raise WrongType(path, "the count is too large for a JSON number")
        return {device: (writes + 1, total + amount)}

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        return {device: max(a.get(device, (0, 0)), b.get(device, (0, 0))) for device in {**a, **b}}

    def value(self, state: State) -> Any:
        total = 0
        for entry in state.values():
            total += entry[1]
        return total if -MAX_INTEGER <= total <= MAX_INTEGER else _clamped(total)

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op == "increment" and not path:
            self.check(operation.value, operation.path)
            return self._add(state, operation.value, stamp[2], operation.path)
        return super().operate(state, operation, path, stamp)

    def adopt(self, value: Any, stamp: Stamp) -> State:
        """An import has an entry of its own, which a repeat sets instead of adding to it; of two
        values that it brings, the one with the later stamp counts."""
        wall, _, device = stamp
        if device.startswith(IMPORTED):
            return {device: (wall + 1, value)}
        return {UNKNOWN_DEVICE: (1, value)} if value else self.bottom

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        """The device knows its own entry; the rest of what it saw was counted by others."""
        seen = 0 if value is ABSENT else value
        own = (current or self.bottom).get(device, (0, 0)) if device != UNKNOWN_DEVICE else (0, 0)
        return {device: own, UNKNOWN_DEVICE: (1, seen - own[1])}

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        """A device that comes back begins a new entry, so its old one can be anybody's.

        An import comes back with its old one: folded, it would count twice.
        """
        kept = {name for name in state if name in alive or name.startswith(IMPORTED)}
        gone = [entry for device, entry in state.items() if device not in kept]
        folded = {device: entry for device, entry in state.items() if device in kept}
        if gone:
            folded[UNKNOWN_DEVICE] = (sum(q for q, _ in gone), sum(n for _, n in gone))
        return folded

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        """[device, writes, sum, …]; of a single device the sum is the value and left out, and so
        is the device if it is the sidecar's first."""
        if len(state) == 1:
            ((device, (writes, _)),) = state.items()
            number = sidecar.pack_device(device)
            return [number, writes] if number else writes
        packed: list[int] = []
        for device in sorted(state):
            packed += (sidecar.pack_device(device), *state[device])
        return packed or None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        if packed is None:
            return self.bottom
        if isinstance(packed, int):
            packed = [0, packed]
        entries = [*packed, value] if len(packed) == 2 else packed
        return {
            sidecar.unpack_device(entries[i]): (entries[i + 1], entries[i + 2])
            for i in range(0, len(entries), 3)
        }


def _clamped(total: int) -> int:
    return max(-MAX_INTEGER, min(total, MAX_INTEGER))


counter = Counter()
