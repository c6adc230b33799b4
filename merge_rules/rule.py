"""What a rule is: a small state-based CRDT over a JSON value.

The states of a rule form a join semilattice (Shapiro et al., "A comprehensive study of
Convergent and Commutative Replicated Data Types", 2011). A write contributes a *delta*, the
least state that carries what the device changed (Almeida et al., "Delta State Replicated Data
Types", 2018); a delta equal to `bottom` changes nothing.

States are plain JSON-like values, shared and never mutated.
"""

from collections.abc import Collection, Iterable
from enum import Enum
from hashlib import blake2b
from typing import Any, ClassVar, Final, Literal, NamedTuple

from mypy_extensions import mypyc_attr

from merge_rules.canonical import MAX_DEPTH, depth, encode
from merge_rules.refusal import NotCanonical, OperationRefused, Path, WrongType
from merge_rules.sidecar import Packed, Sidecar
from merge_rules.stamp import ZERO, Stamp

State = Any
"""The state of a rule; its shape is the rule's own."""


class Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""Stands where there is no value, since null is a value."""

KINDS = ("boolean", "number", "string", "array", "object", "null")
"""What a JSON value can be."""

OperationName = Literal["set", "unset", "increment", "maximum", "minimum", "add", "remove", "reset"]


class Operation(NamedTuple):
    """One step of a PATCH: what to do, where, and with which operand (ABSENT: none)."""

    op: OperationName
    path: Path
    value: Any = ABSENT

    @property
    def takes_away(self) -> bool:
        """Whether it only ever takes something away, and so makes nothing where nothing is."""
        return self.op in ("unset", "remove", "reset")

    @property
    def begins_document(self) -> bool:
        """Whether it resets the whole document, to which no rule can object."""
        return self.op == "reset" and not self.path

    def operand(self, levels: int = 0) -> Any:
        """The operand, which is to stand `levels` below the path.

        Raises WrongType if there is none, NotCanonical if the document would get too deep.
        """
        if self.value is ABSENT:
            raise WrongType(self.path, f"`{self.op}` takes a `value`")
        inside = depth(encode(self.value)) if isinstance(self.value, (dict, list)) else 0
        if len(self.path) + levels + inside > MAX_DEPTH:
            raise NotCanonical((), f"it would be nested deeper than {MAX_DEPTH} levels")
        return self.value


@mypyc_attr(allow_interpreted_subclasses=True)
class Rule:
    """A merge rule. Rules are immutable, and those that `describe` alike behave alike."""

    name: ClassVar[str]
    bottom: ClassVar[State] = None
    takes: ClassVar[Collection[str]] = KINDS
    """The kinds of JSON values that a device may write."""
    shows: ClassVar[Collection[str]] = KINDS
    """The kinds of JSON values that an app may see."""
    needs_base: ClassVar[bool] = False
    """Whether a write to a whole document needs to know the base that the device edited."""

    # What every rule has of its class, an app's too, is a ClassVar: compiled code would not look
    # for anything else in a class that is not compiled. What is kept is a plain attribute, since
    # compiled rules have no `__dict__` for cached properties.
    _fingerprint: str | None = None
    _built_in: bool | None = None

    @property
    def needs_base_inside(self) -> bool:
        """The same for a value inside a record or map, which a write may leave as it was."""
        return self.needs_base

    def check(self, value: Any, path: Path = ()) -> None:
        """Raises WrongType, with the path at fault, if the rule cannot merge the value."""

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        """What a device changed that saw `base` and wrote `value`; bottom if nothing.

        Raises DeviceRequired where the rule counts per device and the stamp names none.
        """
        raise NotImplementedError

    def advance(self, base: State, value: Any, stamp: Stamp) -> State:
        """The base with the device's change: never below the base, equal if nothing changed."""
        return self.apply(base, self.delta(base, value, stamp))

    def apply(self, state: State, delta: State) -> State:
        """The state with a delta made on it, or on a state below it."""
        return self.join(state, delta)

    def join(self, a: State, b: State) -> State:
        """The least upper bound: commutative, associative, idempotent; never raises."""
        raise NotImplementedError

    def value(self, state: State) -> Any:
        """The plain JSON that the app sees, or ABSENT where nothing was written yet."""
        raise NotImplementedError

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        """The delta of an operation on the current state; `path` is what is left of its path.

        Raises OperationRefused, WrongType, NotCanonical or DeviceRequired.
        """
        if operation.op == "set" and not path:
            self.check(operation.operand(), operation.path)
            return self.delta(state, operation.value, stamp)
        raise self.refuse(operation)

    def refuse(self, operation: Operation, why: str = "") -> OperationRefused:
        reason = f"`{operation.op}` does not apply to {self.name}"
        return OperationRefused(operation.path, f"{reason}: {why}" if why else reason)

    def adopt(self, value: Any, stamp: Stamp) -> State:
        """A state for a plain value whose own state is not known: imported, or of another rule."""
        return self.delta(self.bottom, value, stamp)

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        """The base that a device saw, from its plain value, when the history is gone.

        It serves `delta` only and is never joined. `current` supplies what a device knows of
        its own writes and what it must have seen to have seen the value, which is ABSENT
        where the device saw none.
        """
        return self.bottom if value is ABSENT else self.adopt(value, ZERO)

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        """The state without what only devices and edits from before a time could still need.

        The value stays. Counts of devices that are not `alive` become one entry, removals are
        forgotten, older stamps are lifted to `before_ms`. A folded state cannot be joined with
        one from before it was folded: whoever folds refuses older bases from then on.
        """
        return state

    def parts(self, state: State) -> dict[str, State] | None:
        """The states at the keys of an object; None where the rule does not look inside."""
        return None

    def assemble(self, parts: dict[str, State]) -> State:
        """The state whose `parts` these are; only where the rule looks inside."""
        raise NotImplementedError

    def stamps(self, state: State) -> Iterable[Stamp]:
        """Every stamp in the state."""
        return ()

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        """What `value`, the state's own, does not say about the state; None if it says all."""
        return None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        """The state of a plain value and what `pack` made beside it."""
        return self.bottom if value is ABSENT else value

    def child(self, token: str) -> "Rule | None":
        """The rule of the value at a key below this one; None if the rule does not look inside."""
        return None

    def describe(self) -> str:
        """The rule in the words of its definition; equal text, equal behaviour."""
        return self.name

    @property
    def fingerprint(self) -> str:
        """Names the rule that made a stored state: 8 hexadecimal digits."""
        if self._fingerprint is None:
            self._fingerprint = blake2b(self.describe().encode(), digest_size=4).hexdigest()
        return self._fingerprint

    def composed_of(self) -> list["Rule"]:
        """The rules that it holds, and so hands a part of its work to; some perhaps twice.

        Found here are those that a rule of an app's own has for attributes.
        """
        attributes: list[Any] = [*getattr(self, "__dict__", {}).values()]
        inside = [item for held in attributes if isinstance(held, dict) for item in held.values()]
        return [held for held in (*attributes, *inside) if isinstance(held, Rule)]

    @property
    def built_in(self) -> bool:
        """Whether it is made of nothing but this package's rules, which are trusted."""
        if self._built_in is None:
            here = type(self).__module__.startswith("merge_rules.")
            self._built_in = here and all(rule.built_in for rule in self.composed_of())
        return self._built_in

    # What a rule of an app's own says of itself, so that the laws can be checked.

    def example_values(self) -> Iterable[Any]:
        """A few values that it merges: the smallest first, alike ones, extremes.

        Without them the check takes what `check` lets through of a pool of its own.
        """
        return ()

    def example_states(self) -> Iterable[State]:
        """States that are worth a check though few writes lead to them."""
        return ()

    def promise(self, before: Any, written: Any) -> Any:
        """The value that a device must see which saw `before` (or ABSENT) and wrote `written`.

        NotImplemented where the two do not say it.
        """
        return written

    def __repr__(self) -> str:
        return self.describe()
