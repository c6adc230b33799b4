"""Generators for any rule: values, colliding states, operations.

States come from two sources on purpose. A history never makes two writes with one stamp, so it
cannot see a wrong tie-break; arbitrary states from a tiny pool collide all the time.
"""

from collections.abc import Callable, Collection
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union, union
from merge_rules.counter import UNKNOWN_DEVICE, Counter
from merge_rules.derived import Days, Samples
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.refusal import Refusal
from merge_rules.register import LastWriteWins, Strict
from merge_rules.rule import ABSENT, Operation, OperationName, Rule, State
from merge_rules.scalar import Best, Flag, Maximum
from merge_rules.stamp import Stamp
from merge_rules.verification.exact import exact, same
from merge_rules.verification.examples import (
    DAYS,
    DEVICES,
    INTEGERS,
    ITEMS,
    NUMBERS,
    VALUES,
    child_of,
    example_values,
    names_of,
)
from merge_rules.verification.story import Made, Write
from merge_rules.verification.watched import Watched

OPERATION_NAMES: tuple[OperationName, ...] = (
    *("set", "unset", "increment", "maximum", "minimum", "add", "remove", "reset"),
)

tiny_values = st.sampled_from(VALUES)
devices = st.sampled_from(DEVICES)


_times = st.tuples(st.integers(0, 3), st.integers(0, 1))


def stamps(device: SearchStrategy[str] = devices) -> SearchStrategy[Stamp]:
    return st.tuples(st.integers(0, 3), st.integers(0, 1), device)


_all_stamps = stamps()


def stamp_of(draw: DrawFn, device: str) -> Stamp:
    """A stamp of this device; cheaper than a strategy for each."""
    return (*draw(_times), device)


# Values -----------------------------------------------------------------------------------


def values_of(rule: Rule) -> SearchStrategy[Any]:
    """Values that the rule merges, from tiny pools so that they collide."""
    if [*rule.example_values()]:
        return st.sampled_from(example_values(rule))
    match rule:
        case Resettable():
            return values_of(rule.rule)
        case Best():
            scores = st.sampled_from(NUMBERS)
            return st.fixed_dictionaries({rule.by: scores}, optional={"x": tiny_values})
        case Union() | CausalSet():
            return st.lists(st.sampled_from(ITEMS), max_size=3)
        case Days():
            days = st.sampled_from(DAYS)
            return days | st.lists(days, max_size=3) | days.map(lambda day: {"last": day})
        case Record() | MapOf() | RemovableMapOf():
            return _fields(rule, values_of)
        case _:
            return st.sampled_from(example_values(rule))


def _fields(
    rule: Rule, below: Callable[[Rule], SearchStrategy[Any]]
) -> SearchStrategy[dict[str, Any]]:
    """An object with up to three keys of the rule, each from its child's strategy."""
    children = {name: below(child_of(rule, name)) for name in names_of(rule)}
    chosen = st.lists(st.sampled_from([*children]), unique=True, max_size=3)
    return _objects(chosen, children)


@st.composite
def _objects(
    draw: DrawFn,
    chosen: SearchStrategy[list[str]],
    children: dict[str, SearchStrategy[Any]],
) -> dict[str, Any]:
    return {name: draw(children[name]) for name in draw(chosen)}


# States -----------------------------------------------------------------------------------


def states_of(rule: Rule) -> SearchStrategy[State]:
    """Valid states, reachable or not: equal stamps with other values, equal counts with others."""
    if not _keeps_its_shape(rule):
        written = written_states_of(Watched(rule)).map(lambda made: made.state)
        own = [*rule.example_states()]
        return st.sampled_from(own) | written if own else written
    match rule:
        case Resettable():
            return st.tuples(st.integers(0, 2), states_of(rule.rule))
        case Maximum() | Best():
            return st.none() | values_of(rule)
        case Flag():
            return st.booleans()
        case Counter():
            entries = st.tuples(st.integers(1, 3), st.sampled_from(INTEGERS))
            return st.dictionaries(st.sampled_from((UNKNOWN_DEVICE, *DEVICES)), entries, max_size=3)
        case Union():
            return values_of(rule).map(lambda items: union.delta([], items, (0, 0, "")))
        case CausalSet():
            texts = st.sampled_from([exact(item).decode() for item in ITEMS])
            return st.dictionaries(texts, st.integers(1, 4), max_size=4)
        case Samples():
            held = st.tuples(stamps(), st.sampled_from(NUMBERS))
            return st.lists(held, max_size=rule.k + 1).map(lambda new: rule.join(new, new))
        case Record() | MapOf():
            return _fields(rule, _written_once)
        case RemovableMapOf():
            return _fields(rule, _entries)
        case Strict():
            return st.none() | st.tuples(values_of(rule))
        case LastWriteWins():
            return st.none() | st.tuples(stamps()) | st.tuples(stamps(), values_of(rule))
        case _:
            raise AssertionError(f"{rule} keeps no known shape")


def _keeps_its_shape(rule: Rule) -> bool:
    """Whether its states look like those of the built-in rule that it is, or is made from."""
    for kind in type(rule).__mro__:
        if kind.__module__.startswith("merge_rules."):
            return kind is not Rule and kind is not Days
        if {"bottom", "delta", "example_states"} & set(vars(kind)):
            return False
    return False


def _written_once(child: Rule) -> SearchStrategy[State]:
    """States of a child that somebody wrote; where nobody did, its key is not there."""
    watched = Watched(child)
    return states_of(child).filter(
        lambda state: not same(state, child.bottom) or watched.value(state) is not ABSENT
    )


def _entries(child: Rule) -> SearchStrategy[State]:
    """An odd length with a child that has a value, or an even one with none."""
    watched = Watched(child)
    present = states_of(child).filter(lambda state: watched.value(state) is not ABSENT)
    return st.tuples(st.sampled_from([1, 3]), present) | st.tuples(
        st.sampled_from([2, 4]), st.just(child.bottom)
    )


@st.composite
def written_states_of(draw: DrawFn, rule: Watched, values: Any = None, most: int = 3) -> Made:
    """A state after a few writes by any devices, at stamps that other writes may share."""
    written = values_of(rule.rule) if values is None else values
    told: list[str] = []
    state = rule.bottom
    for _ in range(draw(st.integers(0, most))):
        value, stamp = draw(written), draw(_all_stamps)
        rule.begin(*told)
        try:
            state = rule.advance(state, value, stamp)
        except Refusal:
            continue
        told.append(Write(value, stamp).told())
    return Made(state, ", then ".join(told) or "the empty state")


# Operations -------------------------------------------------------------------------------


def tokens_of(rule: Rule) -> list[str]:
    """Path tokens that lead somewhere under the rule, or nowhere."""
    below = [child for name in names_of(rule) if (child := rule.child(name)) is not None]
    inside = [name for child in below for name in names_of(child)]
    return sorted({*names_of(rule), *inside, "k", "0", "1", "-", "", "~/"})


def operations_of(
    rule: Rule, names: Collection[OperationName] = OPERATION_NAMES
) -> SearchStrategy[Operation]:
    """Any operation, on any short path, with an operand that fits or does not, or with none."""
    return st.builds(
        Operation,
        op=st.sampled_from([*names]),
        path=st.lists(st.sampled_from(tokens_of(rule)), max_size=3).map(tuple),
        value=st.one_of(st.sampled_from(INTEGERS), tiny_values, values_of(rule), st.just(ABSENT)),
    )
