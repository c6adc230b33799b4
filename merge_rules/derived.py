"""Rules whose value is computed from what was added: samples (a moving average) and days."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from merge_rules.canonical import encode, same
from merge_rules.plain import is_number
from merge_rules.refusal import Path, WrongType
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.sidecar import Packed, Sidecar
from merge_rules.stamp import ZERO, Stamp, successor

MAX_SAMPLES = 1_000
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@mypyc_attr(allow_interpreted_subclasses=True)
class Samples(Rule):
    """A moving average that merges: average ← (1 - alpha)·average + alpha·sample.

    State: the newest k samples as (stamp, number), oldest first. The app reads the average and
    writes the newest sample in its place; the average itself, or the device's own newest
    sample, written again, is no new one. Two equal samples in a row need the operation `add`.
    """

    name = "samples"
    takes = ("number",)
    shows = ("number",)
    bottom: ClassVar[State] = []

    def __init__(self, k: int, alpha: float) -> None:
        self.k = k
        self.alpha = alpha

    @property
    def needs_base_inside(self) -> bool:
        """Only the base tells a new sample from an average sent along as it was."""
        return True

    def check(self, value: Any, path: Path = ()) -> None:
        if not is_number(value):
            raise WrongType(path, "samples take a number, the newest sample")

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        own = [sample for at, sample in base if at[2] == stamp[2]]
        if base and (same(self.value(base), value) or (own and same(own[-1], value))):
            return self.bottom
        return self._add(base, value, stamp)

    def _add(self, base: State, sample: Any, stamp: Stamp) -> State:
        at = max(stamp, successor(base[-1][0], stamp[2])) if base else stamp
        return [(at, sample)]

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        samples = {(at, encode(sample)): sample for at, sample in (*a, *b)}
        return [(key[0], samples[key]) for key in sorted(samples)[-self.k :]]

    def value(self, state: State) -> Any:
        if not state:
            return ABSENT
        average = state[0][1]
        for _, sample in state[1:]:
            average = (1 - self.alpha) * average + self.alpha * sample
        return 0.0 if isinstance(average, float) and average == 0 else average

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op == "add" and not path:
            self.check(operation.operand(), operation.path)
            return self._add(state, operation.value, stamp)
        return super().operate(state, operation, path, stamp)

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        if current and value is not ABSENT and same(self.value(current), value):
            return current
        return super().reconstruct(value, current, device)

    def stamps(self, state: State) -> Iterator[Stamp]:
        for at, _ in state:
            yield at

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        """[stamp, sample, …]; a sole sample is the value and left out."""
        if len(state) == 1:
            return sidecar.pack_stamp(state[0][0])
        packed = []
        for at, sample in state:
            packed += [sidecar.pack_stamp(at), sample]
        return {"": packed} if packed else None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        if value is ABSENT:
            return self.bottom
        if not isinstance(packed, dict):
            return [(sidecar.unpack_stamp(packed), value)]
        flat = packed[""]
        return [(sidecar.unpack_stamp(flat[i]), flat[i + 1]) for i in range(0, len(flat), 2)]

    def describe(self) -> str:
        return f"samples({self.k}, {self.alpha})"


@mypyc_attr(allow_interpreted_subclasses=True)
class Days(Rule):
    """Days on which something was done, and the streaks that they make.

    State: [(first, last)] of day numbers, apart and in order. The app reads `{"current",
    "longest", "total", "last"}` (days, and the last day as YYYY-MM-DD in the user's own
    calendar) and writes a day, an array of days, or that object with a new `last`. `current`
    is the streak that ends on `last`: whether it is still alive is for the app's clock to say.
    """

    name = "days"
    takes = ("string", "array", "object")
    shows = ("object",)
    bottom: ClassVar[State] = []

    def check(self, value: Any, path: Path = ()) -> None:
        if isinstance(value, dict):
            path, value = (*path, "last"), value.get("last")
        if isinstance(value, list):
            if not value:
                raise WrongType(path, "days take one day or more")
            for place, day in enumerate(value):
                _day_number(day, (*path, str(place)))
        else:
            _day_number(value, path)

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        numbers = {_day_number(day, ()) for day in _named_days(value)}
        return _intervals((day, day) for day in numbers if not _holds(base, day))

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        return _intervals((*a, *b))

    def value(self, state: State) -> Any:
        if not state:
            return ABSENT
        first, last = state[-1]
        return {
            "current": last - first + 1,
            "longest": max(end - start + 1 for start, end in state),
            "total": sum(end - start + 1 for start, end in state),
            "last": date.fromordinal(last).isoformat(),
        }

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op == "add" and not path:
            _day_number(operation.operand(), operation.path)
            return self.delta(state, operation.value, stamp)
        return super().operate(state, operation, path, stamp)

    def adopt(self, value: Any, stamp: Stamp) -> State:
        """The streak that ends on `last`, and before it the longest, which must have been."""
        if not isinstance(value, dict):
            return self.delta(self.bottom, value, stamp)
        last = _day_number(value["last"], ())
        current = _count(value, "current", last, at_least=1)
        first = last - current + 1
        longest = _count(value, "longest", first - 2)
        earlier = [(first - 1 - longest, first - 2)] if longest > current else []
        return [*earlier, (first, last)]

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        return self.bottom  # a day that is added again changes nothing

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        """[first, last, …]; a sole interval is what the value says."""
        return [day for interval in state for day in interval] if len(state) > 1 else None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        if packed is not None:
            return [(packed[i], packed[i + 1]) for i in range(0, len(packed), 2)]
        return self.bottom if value is ABSENT else self.adopt(value, ZERO)


def _day_number(day: Any, path: Path) -> int:
    refusal = WrongType(path, "days take a day as YYYY-MM-DD")
    if not isinstance(day, str) or not _DAY.fullmatch(day):
        raise refusal
    try:
        return date.fromisoformat(day).toordinal()
    except ValueError as error:
        raise refusal from error


def _named_days(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value["last"]]
    return value if isinstance(value, list) else [value]


def _count(value: dict[str, Any], field: str, most: int, *, at_least: int = 0) -> int:
    """A number of days as an app may have counted them, within what the calendar allows."""
    count = value.get(field, 0)
    whole = isinstance(count, int) and not isinstance(count, bool)
    return max(at_least, min(count if whole else 0, max(most, at_least)))


def _intervals(intervals: Iterable[tuple[int, int]]) -> State:
    """The same days in as few intervals as they need, in order."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _holds(state: State, day: int) -> bool:
    place = bisect_right(state, day, key=lambda interval: interval[0]) - 1
    return place >= 0 and bool(day <= state[place][1])


days = Days()


def samples(k: int, alpha: float) -> Samples:
    """The moving average of the newest k samples, each new one weighing `alpha` (0 < alpha ≤ 1)."""
    if not 1 <= k <= MAX_SAMPLES:
        raise ValueError(f"samples keep 1 to {MAX_SAMPLES} numbers, not {k}")
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is the weight of a new sample, above 0 and at most 1, not {alpha}")
    return Samples(k, alpha)
