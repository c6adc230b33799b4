"""Sets and maps: union, causal_set, map_of."""

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from merge_rules.canonical import decode, encode
from merge_rules.refusal import Path, Refusal, WrongType
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.sidecar import Packed, Sidecar, pack_keys, unpack_keys
from merge_rules.stamp import Stamp


def _text(item: Any) -> str:
    return encode(item).decode()


def _check_array(value: Any, path: Path, name: str) -> None:
    if not isinstance(value, list):
        raise WrongType(path, f"a {name} takes an array")


def _check_object(value: Any, path: Path) -> None:
    if not isinstance(value, dict):
        raise WrongType(path, "a map takes an object")


def _present(length: int) -> bool:
    return length % 2 == 1


@mypyc_attr(allow_interpreted_subclasses=True)
class Union(Rule):
    """A set that only grows. State: the items, each once, in the order of their bytes."""

    name = "union"
    takes = ("array",)
    shows = ("array",)
    bottom: ClassVar[State] = []

    def check(self, value: Any, path: Path = ()) -> None:
        _check_array(value, path, self.name)

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        held = {_text(item) for item in base}
        new = {_text(item): item for item in value}
        return [new[text] for text in sorted(new) if text not in held]

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        items = {_text(item): item for item in (*a, *b)}
        return [items[text] for text in sorted(items)]

    def value(self, state: State) -> Any:
        return state

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op == "add" and not path:
            return self.delta(state, [operation.operand(levels=1)], stamp)
        return super().operate(state, operation, path, stamp)


@mypyc_attr(allow_interpreted_subclasses=True)
class CausalSet(Rule):
    """A set with removal (a causal-length set, Yu & Rostad, PaPoC 2020).

    State: {canonical text of the item: length}. An odd length is present, an even one removed;
    every change by a device that saw a length adds one to it, and the greater length wins.
    """

    name = "causal_set"
    takes = ("array",)
    shows = ("array",)
    bottom: ClassVar[State] = {}
    needs_base = True

    def check(self, value: Any, path: Path = ()) -> None:
        _check_array(value, path, self.name)

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        wanted = {_text(item) for item in value}
        held = {text for text, length in base.items() if _present(length)}
        return {text: base.get(text, 0) + 1 for text in wanted ^ held}

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        return {text: max(a.get(text, 0), b.get(text, 0)) for text in {**a, **b}}

    def value(self, state: State) -> Any:
        return [decode(text.encode()) for text in sorted(state) if _present(state[text])]

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if operation.op in ("add", "remove") and not path:
            text = _text(operation.operand(levels=1))
            length = state.get(text, 0)
            changes = _present(length) != (operation.op == "add")
            return {text: length + 1} if changes else self.bottom
        return super().operate(state, operation, path, stamp)

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        seen = set() if value is ABSENT else {_text(item) for item in value}
        return {
            text: _seen_length((current or {}).get(text, 0), text in seen)
            for text in {*seen, *(current or {})}
        }

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        return {text: length for text, length in state.items() if _present(length)}

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        return {text: state[text] for text in sorted(state) if state[text] != 1} or None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        held = [] if value is ABSENT else value
        return {_text(item): 1 for item in held} | (packed or {})


def _seen_length(length: int, present: bool) -> int:
    """The last length at which an item now at `length` was present, or was not."""
    if _present(length) == present:
        return length
    return length - 1 if length else 1


@mypyc_attr(allow_interpreted_subclasses=True)
class MapOf(Rule):
    """One rule for the value at every key; a key that a write leaves out is unchanged."""

    name = "map_of"
    takes = ("object",)
    shows = ("object",)
    bottom: ClassVar[State] = {}

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        return self.rule.needs_base_inside

    def check(self, value: Any, path: Path = ()) -> None:
        _check_object(value, path)
        for key, item in value.items():
            self.rule.check(item, (*path, key))

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        changed = {}
        for key, item in value.items():
            below = base.get(key, self.rule.bottom)
            try:
                delta = self.rule.delta(below, item, stamp)
            except Refusal as refusal:
                raise refusal.below(key) from refusal
            made = key not in base and self.rule.value(delta) is not ABSENT
            if delta != self.rule.bottom or made:
                changed[key] = delta
        return changed

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        joined = dict(a)
        for key, state in b.items():
            joined[key] = self.rule.join(a[key], state) if key in a else state
        return joined

    def value(self, state: State) -> Any:
        values = {}
        for key, child in state.items():
            item = self.rule.value(child)
            if item is not ABSENT:
                values[key] = item
        return values

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if not path:
            return super().operate(state, operation, path, stamp)
        key = path[0]
        delta = self.rule.operate(state.get(key, self.rule.bottom), operation, path[1:], stamp)
        if delta == self.rule.bottom and (
            key in state or operation.takes_away or self.rule.value(delta) is ABSENT
        ):
            return self.bottom
        return {key: delta}

    def adopt(self, value: Any, stamp: Stamp) -> State:
        adopted = {key: self.rule.adopt(item, stamp) for key, item in value.items()}
        return {k: child for k, child in adopted.items() if self.rule.value(child) is not ABSENT}

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        seen = {} if value is ABSENT else value
        held = current or self.bottom
        return {
            key: self.rule.reconstruct(
                seen.get(key, ABSENT), held.get(key, self.rule.bottom), device
            )
            for key in {**seen, **held}
        }

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        folded = {}
        for key, child in state.items():
            below = self.rule.fold(child, before_ms, alive)
            if below != self.rule.bottom or self.rule.value(below) is not ABSENT:
                folded[key] = below
        return folded

    def parts(self, state: State) -> dict[str, State]:
        return dict(state)

    def assemble(self, parts: dict[str, State]) -> State:
        return parts

    def stamps(self, state: State) -> Iterable[Stamp]:
        stamps: list[Stamp] = []
        for child in state.values():
            stamps += self.rule.stamps(child)
        return stamps

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        packed = {}
        for key in sorted(state):
            item = self.rule.pack(state[key], value.get(key, ABSENT), sidecar)
            if item is not None:
                packed[key] = item
        return pack_keys(packed, value)

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        held = {} if value is ABSENT else value
        extra = unpack_keys(packed, held)
        return {
            key: self.rule.unpack(held.get(key, ABSENT), extra.get(key), sidecar)
            for key in {**held, **extra}
        }

    def child(self, token: str) -> Rule | None:
        return self.rule

    def composed_of(self) -> list[Rule]:
        return [self.rule, *super().composed_of()]

    def describe(self) -> str:
        return f"map_of({self.rule.describe()})"


@mypyc_attr(allow_interpreted_subclasses=True)
class RemovableMapOf(Rule):
    """A map whose keys can be removed: each key is an item of a causal set, with a child.

    State: {key: (length, child)}. Greater length wins; at equal lengths the children join.
    A key that the base had and the write has not is removed, and comes back afresh.
    """

    name = "map_of"
    takes = ("object",)
    shows = ("object",)
    bottom: ClassVar[State] = {}
    needs_base = True

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def check(self, value: Any, path: Path = ()) -> None:
        _check_object(value, path)
        for key, item in value.items():
            self.rule.check(item, (*path, key))

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        changed = {}
        for key, item in value.items():
            try:
                entry = self._write(base, key, self.rule.delta, item, stamp)
            except Refusal as refusal:
                raise refusal.below(key) from refusal
            if entry is not None:
                changed[key] = entry
        for key, (length, _) in base.items():
            if _present(length) and key not in value:
                changed[key] = (length + 1, self.rule.bottom)
        return changed

    def _write(self, base: State, key: str, write: Any, *arguments: Any) -> State:
        """The entry that a write to the child at `key` makes; None if it changes nothing."""
        length, child = base.get(key, (0, self.rule.bottom))
        if not _present(length):
            child = write(self.rule.bottom, *arguments)
            return None if self.rule.value(child) is ABSENT else (length + 1, child)
        delta = write(child, *arguments)
        return None if delta == self.rule.bottom else (length, delta)

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        joined = dict(a)
        for key, (length, child) in b.items():
            held_length, held_child = a.get(key, (0, None))
            if length > held_length:
                joined[key] = (length, child)
            elif length == held_length:
                joined[key] = (length, self.rule.join(held_child, child))
        return joined

    def value(self, state: State) -> Any:
        values = {}
        for key, (length, child) in state.items():
            item = self.rule.value(child) if _present(length) else ABSENT
            if item is not ABSENT:
                values[key] = item
        return values

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if not path:
            if operation.op == "remove" and isinstance(operation.value, str):
                return self._remove(state, operation.value)
            return super().operate(state, operation, path, stamp)
        key, rest = path[0], path[1:]
        if operation.op == "unset" and not rest:
            return self._remove(state, key)
        entry = self._write(state, key, self.rule.operate, operation, rest, stamp)
        made = key not in state or not _present(state[key][0])
        if entry is None or (made and operation.takes_away):
            return self.bottom
        return {key: entry}

    def _remove(self, state: State, key: str) -> State:
        length, _ = state.get(key, (0, None))
        return {key: (length + 1, self.rule.bottom)} if _present(length) else self.bottom

    def adopt(self, value: Any, stamp: Stamp) -> State:
        adopted = {key: self.rule.adopt(item, stamp) for key, item in value.items()}
        held = {k: child for k, child in adopted.items() if self.rule.value(child) is not ABSENT}
        return {key: (1, child) for key, child in held.items()}

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        seen = {} if value is ABSENT else value
        state = {}
        for key in {**seen, **(current or {})}:
            held_length, child = (current or {}).get(key, (0, self.rule.bottom))
            length = _seen_length(held_length, key in seen)
            if length != held_length:
                child = self.rule.bottom
            if key in seen:
                child = self.rule.reconstruct(seen[key], child, device)
            state[key] = (length, child)
        return state

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        return {
            key: (length, self.rule.fold(child, before_ms, alive))
            for key, (length, child) in state.items()
            if _present(length)
        }

    def parts(self, state: State) -> dict[str, State]:
        return {key: child for key, (length, child) in state.items() if _present(length)}

    def assemble(self, parts: dict[str, State]) -> State:
        return {key: (1, child) for key, child in parts.items()}

    def stamps(self, state: State) -> Iterable[Stamp]:
        stamps: list[Stamp] = []
        for _, child in state.values():
            stamps += self.rule.stamps(child)
        return stamps

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        packed: dict[str, Packed] = {}
        for key in sorted(state):
            length, child = state[key]
            below = self.rule.pack(child, value.get(key, ABSENT), sidecar)
            if not _present(length):
                packed[key] = length
            elif length != 1 or below is not None:
                packed[key] = [length, below]
        return pack_keys(packed, value)

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        held = {} if value is ABSENT else value
        state: dict[str, Any] = {}
        extras = unpack_keys(packed, held)
        for key in {**held, **extras}:
            extra = extras.get(key, [1, None])
            if isinstance(extra, int):
                state[key] = (extra, self.rule.bottom)
            else:
                child = self.rule.unpack(held.get(key, ABSENT), extra[1], sidecar)
                state[key] = (extra[0], child)
        return state

    def child(self, token: str) -> Rule | None:
        return self.rule

    def composed_of(self) -> list[Rule]:
        return [self.rule, *super().composed_of()]

    def describe(self) -> str:
        return f"map_of({self.rule.describe()}, removable=True)"


union = Union()
causal_set = CausalSet()


def map_of(rule: Rule, *, removable: bool = False) -> Rule:
    """A map with one rule for all its values; `removable`: leaving a key out removes it."""
    if rule.name == "strict":
        raise ValueError("strict applies to a whole document; it cannot stand inside map_of")
    return RemovableMapOf(rule) if removable else MapOf(rule)
