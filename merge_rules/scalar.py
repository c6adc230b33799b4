"""Rules whose state is the value itself: maximum, minimum, flag, best."""

from typing import Any

from mypy_extensions import mypyc_attr

from merge_rules.canonical import encode, same
from merge_rules.plain import is_number
from merge_rules.refusal import Path, WrongType
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.stamp import Stamp


@mypyc_attr(allow_interpreted_subclasses=True)
class _Greatest(Rule):
    """Keeps the greatest of all values under a total order; None is below every value."""

    def _key(self, value: Any) -> tuple[Any, bytes]:
        raise NotImplementedError

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        if base is None:
            return value
        if same(value, base):
            return None
        return value if self._key(value) > self._key(base) else None

    def join(self, a: State, b: State) -> State:
        if a is None:
            return b
        if b is None:
            return a
        return a if self._key(a) >= self._key(b) else b

    def value(self, state: State) -> Any:
        return ABSENT if state is None else state


@mypyc_attr(allow_interpreted_subclasses=True)
class Maximum(_Greatest):
    """The greatest number ever written; 1 and 1.0 are told apart by their bytes."""

    name = "maximum"
    takes = ("number",)
    shows = ("number",)

    def check(self, value: Any, path: Path = ()) -> None:
        if not is_number(value):
            raise WrongType(path, f"a {self.name} takes a number")

    def _key(self, value: Any) -> tuple[Any, bytes]:
        return (value, encode(value))

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op == self.name and not path:
            operation = operation._replace(op="set")
        return super().operate(state, operation, path, stamp)


@mypyc_attr(allow_interpreted_subclasses=True)
class Minimum(Maximum):
    """The least number ever written."""

    name = "minimum"

    def _key(self, value: Any) -> tuple[Any, bytes]:
        return (-value, encode(value))


@mypyc_attr(allow_interpreted_subclasses=True)
class Flag(Rule):
    """Once true, true for good."""

    name = "flag"
    takes = ("boolean",)
    shows = ("boolean",)
    bottom = False

    def check(self, value: Any, path: Path = ()) -> None:
        if not isinstance(value, bool):
            raise WrongType(path, "a flag takes true or false")

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return bool(value and not base)

    def join(self, a: State, b: State) -> State:
        return a or b

    def value(self, state: State) -> Any:
        return state


@mypyc_attr(allow_interpreted_subclasses=True)
class Best(_Greatest):
    """The whole object whose field `by` is the greatest number."""

    name = "best"
    takes = ("object",)
    shows = ("object",)

    def __init__(self, by: str) -> None:
        self.by = by

    def check(self, value: Any, path: Path = ()) -> None:
        if not isinstance(value, dict):
            raise WrongType(path, f"best takes an object with a number in {self.by!r}")
        if not is_number(value.get(self.by)):
            raise WrongType((*path, self.by), "best compares by this field: it takes a number")

    def _key(self, value: Any) -> tuple[Any, bytes]:
        return (value[self.by], encode(value))

    def describe(self) -> str:
        return f"best({self.by!r})"


maximum = Maximum()
minimum = Minimum()
flag = Flag()


def best(by: str) -> Best:
    """Keeps the object with the greatest number in the field `by`."""
    return Best(by)
