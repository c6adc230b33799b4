"""An object whose fields each have a rule of their own."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar

from mypy_extensions import mypyc_attr

from merge_rules.refusal import Path, Refusal, WrongType
from merge_rules.register import LastWriteWins, last_write_wins
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.sidecar import Packed, Sidecar, pack_keys, unpack_keys
from merge_rules.stamp import Stamp


@mypyc_attr(allow_interpreted_subclasses=True)
class Record(Rule):
    """A rule a field, and a default for every other one. State: {field: its state}.

    A field that a write leaves out is unchanged, since an old version of an app drops the
    fields that it does not know. Fields under last write wins are removed by `unset`.
    """

    name = "record"
    takes = ("object",)
    shows = ("object",)
    bottom: ClassVar[State] = {}

    def __init__(self, fields: Mapping[str, Rule], default: Rule) -> None:
        self.fields = dict(fields)
        self.default = default

    @property
    def needs_base(self) -> bool:  # type: ignore[override]
        rules = (*self.fields.values(), self.default)
        return any(rule.needs_base_inside for rule in rules)

    def child(self, token: str) -> Rule:
        return self.fields.get(token, self.default)

    def check(self, value: Any, path: Path = ()) -> None:
        if not isinstance(value, dict):
            raise WrongType(path, "a record takes an object")
        rule_of, default = self.fields.get, self.default
        for name, item in value.items():
            rule = rule_of(name, default)
            if rule is not last_write_wins:  # which takes anything
                rule.check(item, (*path, name))

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        changed = {}
        rule_of, default = self.fields.get, self.default
        for name, item in value.items():
            rule = rule_of(name, default)
            bottom = rule.bottom
            try:
                delta = rule.delta(base.get(name, bottom), item, stamp)
            except Refusal as refusal:
                raise refusal.below(name) from refusal
            if delta != bottom or (name not in base and rule.value(delta) is not ABSENT):
                changed[name] = delta
        return changed

    def join(self, a: State, b: State) -> State:
        if not a or not b:
            return a or b
        joined = dict(a)
        rule_of, default = self.fields.get, self.default
        for name, state in b.items():
            joined[name] = rule_of(name, default).join(a[name], state) if name in a else state
        return joined

    def value(self, state: State) -> Any:
        values = {}
        rule_of, default = self.fields.get, self.default
        for name, child in state.items():
            item = rule_of(name, default).value(child)
            if item is not ABSENT:
                values[name] = item
        return values

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        if not path:
            return super().operate(state, operation, path, stamp)
        name, rest = path[0], path[1:]
        rule = self.child(name)
        if operation.op == "unset" and not rest and not isinstance(rule, LastWriteWins):
            raise self.refuse(
                operation, f"{name!r} is a {rule.describe()} and cannot be taken away"
            )
        held = state.get(name, rule.bottom)
        delta = rule.operate(held, operation, rest, stamp)
        if delta == rule.bottom and (
            name in state or operation.takes_away or rule.value(delta) is ABSENT
        ):
            return self.bottom
        return {name: delta}

    def adopt(self, value: Any, stamp: Stamp) -> State:
        adopted = {name: self.child(name).adopt(item, stamp) for name, item in value.items()}
        return {
            name: state
            for name, state in adopted.items()
            if self.child(name).value(state) is not ABSENT
        }

    def reconstruct(self, value: Any, current: State, device: str) -> State:
        seen = {} if value is ABSENT else value
        held = current or self.bottom
        state = {}
        for name in {**seen, **held}:
            rule = self.child(name)
            below = held.get(name, rule.bottom)
            state[name] = rule.reconstruct(seen.get(name, ABSENT), below, device)
        return state

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        folded = {}
        for name, child in state.items():
            rule = self.child(name)
            below = rule.fold(child, before_ms, alive)
            if below != rule.bottom or rule.value(below) is not ABSENT:
                folded[name] = below
        return folded

    def parts(self, state: State) -> dict[str, State]:
        return dict(state)

    def assemble(self, parts: dict[str, State]) -> State:
        return parts

    def stamps(self, state: State) -> Iterable[Stamp]:
        stamps: list[Stamp] = []
        rule_of, default = self.fields.get, self.default
        for name, child in state.items():
            stamps += rule_of(name, default).stamps(child)
        return stamps

    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        packed = {}
        rule_of, default = self.fields.get, self.default
        for name in sorted(state):
            rule = rule_of(name, default)
            item = rule.pack(state[name], value.get(name, ABSENT), sidecar)
            if item is not None:
                packed[name] = item
        return pack_keys(packed, value)

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        held = {} if value is ABSENT else value
        extra = unpack_keys(packed, held)
        rule_of, default = self.fields.get, self.default
        return {
            name: rule_of(name, default).unpack(held.get(name, ABSENT), extra.get(name), sidecar)
            for name in {**held, **extra}
        }

    def composed_of(self) -> list[Rule]:
        return [*self.fields.values(), self.default, *super().composed_of()]

    def describe(self) -> str:
        fields = [f"{name!r}: {self.fields[name].describe()}" for name in sorted(self.fields)]
        return f"record({{{', '.join(fields)}}}, {self.default.describe()})"


def record(fields: Mapping[str, Rule], default: Rule = last_write_wins) -> Record:
    """An object with a rule for each named field and `default` for all others."""
    for name, rule in (*fields.items(), ("*", default)):
        if rule.name == "strict":
            raise ValueError(
                f"strict applies to a whole document; it cannot be the rule of field {name!r}"
            )
    return Record(fields, default)
