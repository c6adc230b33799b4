"""Generators for every rule: values, colliding states, and histories that devices can reach.

States come from two sources on purpose. A history never makes two writes with one stamp, so it
cannot see a wrong tie-break; arbitrary states from a tiny pool collide all the time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from merge_rules import (
    ABSENT,
    Operation,
    Refusal,
    Rule,
    Stamp,
    State,
    best,
    causal_set,
    counter,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    union,
)
from merge_rules.canonical import MAX_INTEGER
from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union
from merge_rules.counter import Counter
from merge_rules.documents import GAME_STATS, LESSON, LESSON_PROGRESS, SETTINGS, USER_STATS
from merge_rules.record import Record
from merge_rules.register import LastWriteWins
from merge_rules.rule import OperationName
from merge_rules.scalar import Best, Flag, Maximum


def examples(count: int, name: str = "") -> settings:
    """Settings for a property; a slow machine is not a failure.

    `name` is the rule's: the shipped documents are records like the others, whose parts have
    been through the laws, so a third of the examples is enough to find a slip in wiring.
    """
    return settings(
        max_examples=count // 3 if name in SHIPPED else count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


# Equality ---------------------------------------------------------------------------------


def exact(thing: Any) -> bytes:
    """Bytes that tell True, 1 and 1.0 apart; tuples read as arrays, ABSENT as itself alone."""
    return b"<absent>" if thing is ABSENT else msgspec.json.encode(thing, order="sorted")


def same(a: Any, b: Any) -> bool:
    return exact(a) == exact(b)


def one_of_exactly(thing: Any, candidates: Iterable[Any]) -> bool:
    return exact(thing) in {exact(candidate) for candidate in candidates}


def unchanged_by(*inputs: Any) -> Callable[[], None]:
    """Remembers the inputs; the function it returns fails if a call mutated one of them."""
    before = [exact(item) for item in inputs]

    def verify() -> None:
        assert [exact(item) for item in inputs] == before, "an input was mutated"

    return verify


# Plain JSON -------------------------------------------------------------------------------

DEVICES = ("a", "b", "c")
KEYS = ("k", "l")

# Pairs that == or a hash confuses, and one of each JSON type.
TINY_VALUES: list[Any] = [None, False, True, 0, 1, 1.0, "", "a", [], [1], [True], {}, {"k": 1.0}]
TINY_NUMBERS: list[Any] = [-1, 0, 0.0, 1, 1.0, 1.5, 2]
TINY_INTEGERS = [-2, -1, 0, 1, 2, 3]
TINY_ITEMS: list[Any] = [True, 1, 1.0, "1", None, [1]]

text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6
) | st.sampled_from(["-0.0", '":', '"', "\\u0000", "\\", "{[", "\uffff", "\U00010000"])
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0 if x else 0.0)
scalars = st.none() | st.booleans() | integers | floats | text


def json_values(max_leaves: int = 12) -> SearchStrategy[Any]:
    """Any value that a document may hold."""
    return st.recursive(
        scalars,
        lambda inside: st.lists(inside, max_size=4) | st.dictionaries(text, inside, max_size=4),
        max_leaves=max_leaves,
    )


tiny_values = st.sampled_from(TINY_VALUES)
devices = st.sampled_from(DEVICES)


def stamps(device: SearchStrategy[str] = devices) -> SearchStrategy[Stamp]:
    return st.tuples(st.integers(0, 3), st.integers(0, 1), device)


# Values and states of a rule --------------------------------------------------------------


def names_of(rule: Rule) -> list[str]:
    """Keys worth trying below a rule: declared fields, and two that are not."""
    return [*rule.fields, *KEYS] if isinstance(rule, Record) else list(KEYS)


def child_of(rule: Rule, token: str) -> Rule:
    child = rule.child(token)
    assert child is not None
    return child


def _fields(
    rule: Rule, below: Callable[[Rule], SearchStrategy[Any]]
) -> SearchStrategy[dict[str, Any]]:
    """An object with up to three keys of the rule, each from its child's strategy."""
    chosen = st.lists(st.sampled_from(names_of(rule)), unique=True, max_size=3)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({name: below(child_of(rule, name)) for name in names})
    )


def values_of(rule: Rule) -> SearchStrategy[Any]:
    """Values that the rule merges, from tiny pools so that they collide."""
    match rule:
        case Maximum():
            return st.sampled_from(TINY_NUMBERS)
        case Flag():
            return st.booleans()
        case Best():
            scores = st.sampled_from(TINY_NUMBERS)
            return st.fixed_dictionaries({rule.by: scores}, optional={"x": tiny_values})
        case Counter():
            return st.sampled_from(TINY_INTEGERS)
        case Union() | CausalSet():
            return st.lists(st.sampled_from(TINY_ITEMS), max_size=3)
        case Record() | MapOf() | RemovableMapOf():
            return _fields(rule, values_of)
        case _:
            return tiny_values


def states_of(rule: Rule) -> SearchStrategy[State]:
    """Valid states, reachable or not: equal stamps with other values, equal counts with others."""
    match rule:
        case Maximum() | Best():
            return st.none() | values_of(rule)
        case Flag():
            return st.booleans()
        case Counter():
            entries = st.tuples(st.integers(1, 3), st.sampled_from(TINY_INTEGERS))
            return st.dictionaries(st.sampled_from(("", *DEVICES)), entries, max_size=3)
        case Union():
            return values_of(rule).map(lambda items: union.delta([], items, (0, 0, "")))
        case CausalSet():
            texts = st.sampled_from([exact(item).decode() for item in TINY_ITEMS])
            return st.dictionaries(texts, st.integers(1, 4), max_size=4)
        case Record() | MapOf():
            return _fields(rule, lambda child: states_of(child).filter(lambda s: s is not None))
        case RemovableMapOf():
            return _fields(rule, _entries)
        case LastWriteWins():
            held = st.tuples(stamps(), tiny_values)
            return st.none() | st.tuples(stamps()) | held
        case _:
            raise AssertionError(f"no states for {rule}")


def _entries(child: Rule) -> SearchStrategy[State]:
    """An odd length with a child that has a value, or an even one with none."""
    present = states_of(child).filter(lambda state: child.value(state) is not ABSENT)
    return st.tuples(st.sampled_from([1, 3]), present) | st.tuples(
        st.sampled_from([2, 4]), st.just(child.bottom)
    )


def _pool() -> dict[str, list[State]]:
    """Small sets of states in which every pair collides, for exhaustive laws."""
    tied = [(1, 0, "a"), (1, 0, "b"), (1, 1, "a")]
    lww: list[State] = [None, *((t,) for t in tied)]
    lww += [(t, v) for t in tied for v in (True, 1, 1.0, None, [1])]
    values = [v for v in lww if v is not None and len(v) == 2][:4]
    removable = [(length, value) for length in (1, 3) for value in values] + [(2, None), (4, None)]
    return {
        "last_write_wins": lww,
        "maximum": [None, *TINY_NUMBERS, MAX_INTEGER, float(MAX_INTEGER)],
        "minimum": [None, *TINY_NUMBERS, -MAX_INTEGER, -float(MAX_INTEGER)],
        "flag": [False, True],
        "best": [None, *({"n": n, "x": x} for n in (1, 1.0, 2) for x in (1, True, "z"))],
        "counter": [
            {},
            *({"a": (q, n)} for q in (1, 2) for n in (-1, 0, 1)),
            *({"b": (q, n)} for q in (1, 2) for n in (0, 1)),
            {"a": (1, 1), "b": (1, 1)},
            {"a": (2, -1), "": (1, 5)},
        ],
        "union": [[], [True], [1], [1.0], [1, 1.0], [1, 1.0, True]],
        "causal_set": [{}, *({"1": n} for n in (1, 2, 3)), {"true": 1, "1": 2}, {"true": 2}],
        "removable_map_of_last_write_wins": [{}, *({"k": entry} for entry in removable)],
    }


POOLS = _pool()

EVERYTHING = record(
    {
        "top": maximum,
        "low": minimum,
        "done": flag,
        "star": best("n"),
        "count": counter,
        "items": union,
        "tags": causal_set,
        "levels": map_of(maximum),
        "themes": map_of(last_write_wins, removable=True),
        "inner": record({"hits": counter}, default=maximum),
    }
)

LEAVES: dict[str, Rule] = {
    "last_write_wins": last_write_wins,
    "maximum": maximum,
    "minimum": minimum,
    "flag": flag,
    "best": best("n"),
    "counter": counter,
    "union": union,
    "causal_set": causal_set,
}

COMPOSED: dict[str, Rule] = {
    "map_of_last_write_wins": map_of(last_write_wins),
    "map_of_maximum": map_of(maximum),
    "map_of_counter": map_of(counter),
    "map_of_map_of_flag": map_of(map_of(flag)),
    "removable_map_of_last_write_wins": map_of(last_write_wins, removable=True),
    "removable_map_of_counter": map_of(counter, removable=True),
    "removable_map_of_record": map_of(
        record({"count": counter, "top": maximum, "tags": causal_set}), removable=True
    ),
    "removable_map_of_removable_map": map_of(
        map_of(last_write_wins, removable=True), removable=True
    ),
    "record_of_everything": EVERYTHING,
    "record_of_flags": record({}, default=flag),
}

SHIPPED: dict[str, Rule] = {
    "game_stats": GAME_STATS,
    "lesson_progress": LESSON_PROGRESS,
    "settings": SETTINGS,
    "user_stats": USER_STATS,
    "lesson": LESSON,
}

RULES: dict[str, Rule] = {**LEAVES, **COMPOSED, **SHIPPED}


# Operations -------------------------------------------------------------------------------

OPERATION_NAMES: tuple[OperationName, ...] = (
    "set",
    "unset",
    "increment",
    "maximum",
    "minimum",
    "add",
    "remove",
    "reset",
)


def tokens_of(rule: Rule) -> list[str]:
    """Path tokens that lead somewhere under the rule, or nowhere."""
    below = [child for name in names_of(rule) if (child := rule.child(name)) is not None]
    inside = [name for child in below for name in names_of(child)]
    return sorted({*names_of(rule), *inside, "hits", "k", "0", "1", "-", "", "~/"})


def operations_of(rule: Rule) -> SearchStrategy[Operation]:
    """Any operation, on any short path, with an operand that fits or does not, or with none."""
    return st.builds(
        Operation,
        op=st.sampled_from(OPERATION_NAMES),
        path=st.lists(st.sampled_from(tokens_of(rule)), max_size=3).map(tuple),
        value=st.one_of(
            st.sampled_from(TINY_INTEGERS), tiny_values, values_of(rule), st.just(ABSENT)
        ),
    )


# Histories --------------------------------------------------------------------------------


@dataclass
class Own:
    """What a device's last accepted write proposed, and the version that it made."""

    state: State
    version: int


@dataclass
class Server:
    """The server of design §2 in memory: `current ⊔ delta(base ⊔ own, value)`."""

    rule: Rule
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

    def patch(self, device: str, operation: Operation, stamp: Stamp) -> None:
        """An operation on the current document; a refused one changes nothing."""
        try:
            delta = self.rule.operate(self.current, operation, operation.path, stamp)
        except Refusal:
            return
        self._accept(device, self.current, delta)

    def _accept(self, device: str, base: State, delta: State) -> None:
        proposed = self.rule.join(base, delta)
        merged = self.rule.join(self.current, delta)
        assert same(merged, self.rule.join(self.current, proposed)), "the delta says it all"
        if not same(merged, self.current):
            self.versions.append(merged)
        self.proposed.append(proposed)
        self.own[device] = Own(proposed, self.version)


@dataclass
class History:
    """A server after some steps, and the version that each device holds."""

    server: Server
    seen: dict[str, int]

    @property
    def states(self) -> list[State]:
        return [*self.server.versions, *self.server.proposed]


@st.composite
def histories(draw: DrawFn, rule: Rule, max_steps: int = 6, patches: bool = True) -> History:
    """Devices that pull, write on what they last pulled, queue writes, and send operations."""
    first = rule.bottom
    if draw(st.integers(0, 3)) == 0:
        first = rule.adopt(draw(values_of(rule)), (1, 0, ""))
    server = Server(rule, [first])
    seen = dict.fromkeys(DEVICES, 0)
    actions = ["put", "put", "pull"] + ["patch"] * patches
    for _ in range(draw(st.integers(0, max_steps))):
        device, action = draw(devices), draw(st.sampled_from(actions))
        if action == "pull":
            seen[device] = server.version
            continue
        stamp = draw(stamps(st.just(device)))
        if action == "put":
            server.put(device, seen[device], draw(values_of(rule)), stamp)
        else:
            server.patch(device, draw(operations_of(rule)), stamp)
    return History(server, seen)


def reachable_states(rule: Rule, count: int) -> SearchStrategy[list[State]]:
    """Some states of one history; together they obey that a device's writes are in order."""

    def pick(history: History) -> SearchStrategy[list[State]]:
        chosen = st.sampled_from(history.states)
        return st.lists(chosen, min_size=count, max_size=count)

    return histories(rule).flatmap(pick)
