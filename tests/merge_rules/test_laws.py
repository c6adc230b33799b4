"""The laws that make every rule a semilattice of which a device sees its own writes."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import ABSENT, Rule, State
from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union
from merge_rules.record import Record
from merge_rules.scalar import Best, Flag, Maximum, Minimum
from tests.merge_rules.strategies import (
    POOLS,
    RULES,
    child_of,
    devices,
    exact,
    examples,
    reachable_states,
    same,
    stamps,
    states_of,
    unchanged_by,
    values_of,
)

every_rule = pytest.mark.parametrize("name", RULES)


def assert_semilattice(rule: Rule, a: State, b: State, c: State) -> None:
    join = rule.join
    unchanged = unchanged_by(a, b, c)
    assert same(join(a, b), join(b, a)), "commutative"
    assert same(join(join(a, b), c), join(a, join(b, c))), "associative"
    assert same(join(a, a), a), "idempotent"
    assert same(join(a, rule.bottom), a), "bottom is neutral"
    assert same(join(rule.bottom, a), a), "bottom is neutral on either side"
    unchanged()


@pytest.mark.parametrize("name", POOLS)
def test_join_is_a_semilattice_on_all_colliding_triples(name: str) -> None:
    """Tie-breaks go wrong only where stamps, counts or values collide, so all do, in all ways."""
    for a, b, c in product(POOLS[name], repeat=3):
        assert_semilattice(RULES[name], a, b, c)


@every_rule
def test_join_is_a_semilattice_on_arbitrary_states(name: str) -> None:
    """Composed states collide in some keys and not in others, which no pool enumerates."""

    @examples(60, name)
    @given(st.tuples(*[states_of(RULES[name])] * 3))
    def law(states: tuple[State, State, State]) -> None:
        assert_semilattice(RULES[name], *states)

    law()


@every_rule
def test_join_is_a_semilattice_on_reachable_states(name: str) -> None:
    """What devices and operations really make must join lawfully, tombstones included."""

    @examples(24, name)
    @given(reachable_states(RULES[name], 3))
    def law(states: list[State]) -> None:
        assert_semilattice(RULES[name], *states)

    law()


@every_rule
def test_advance_is_inflationary_and_pure(name: str) -> None:
    """A write that moved below its base would undo what the device had already seen."""
    rule = RULES[name]

    @examples(35, name)
    @given(
        states_of(rule) | reachable_states(rule, 1).map(lambda s: s[0]), values_of(rule), stamps()
    )
    def law(base: State, value: Any, stamp: tuple[int, int, str]) -> None:
        unchanged = unchanged_by(base, value)
        advanced = rule.advance(base, value, stamp)
        unchanged()
        assert same(rule.join(base, advanced), advanced)
        assert same(rule.join(base, rule.delta(base, value, stamp)), advanced)

    law()


@every_rule
def test_no_change_is_no_new_state(name: str) -> None:
    """A device that sends back what it saw must not look like an editor of all of it."""
    rule = RULES[name]

    @examples(30, name)
    @given(states_of(rule) | reachable_states(rule, 1).map(lambda s: s[0]), stamps())
    def law(base: State, stamp: tuple[int, int, str]) -> None:
        value = rule.value(base)
        if value is not ABSENT:
            assert same(rule.delta(base, value, stamp), rule.bottom)
            assert same(rule.advance(base, value, stamp), base)

    law()


def reflects(rule: Rule, before: Any, written: Any, after: Any) -> bool:
    """Whether `after` is what a device expects that saw `before` and wrote `written`."""
    match rule:
        case Best():
            pair = [written] if before is ABSENT else [before, written]
            return same(after, max(pair, key=lambda item: (item[rule.by], exact(item))))
        case Maximum():
            sign = -1 if isinstance(rule, Minimum) else 1
            pair = [written] if before is ABSENT else [before, written]
            return same(after, max(pair, key=lambda item: (sign * item, exact(item))))
        case Flag():
            return after is (before is True or written)
        case Union():
            held = [] if before is ABSENT else before
            return {*map(exact, after)} == {*map(exact, held), *map(exact, written)}
        case CausalSet():
            return sorted(map(exact, after)) == sorted({*map(exact, written)})
        case Record() | MapOf() | RemovableMapOf():
            held = {} if before is ABSENT else before
            kept = {} if isinstance(rule, RemovableMapOf) else held
            return {*after} == {*kept, *written} and all(
                reflects(child_of(rule, key), held.get(key, ABSENT), written[key], after[key])
                if key in written
                else same(after[key], held[key])
                for key in after
            )
        case _:
            return same(after, written)


@every_rule
def test_a_device_sees_its_own_write(name: str) -> None:
    """The value after a write is the write, wherever the rule lets one device decide."""
    rule = RULES[name]

    @examples(40, name)
    @given(
        states_of(rule) | reachable_states(rule, 1).map(lambda s: s[0]), values_of(rule), stamps()
    )
    def law(base: State, written: Any, stamp: tuple[int, int, str]) -> None:
        after = rule.value(rule.advance(base, written, stamp))
        assert reflects(rule, rule.value(base), written, after)

    law()


@every_rule
def test_a_second_write_supersedes_the_first(name: str) -> None:
    """A device that saw its first write and wrote again means the second, whatever its clock."""
    rule = RULES[name]

    @examples(30, name)
    @given(states_of(rule), values_of(rule), values_of(rule), devices, st.data())
    def law(base: State, one: Any, two: Any, device: str, data: st.DataObject) -> None:
        first = rule.advance(base, one, data.draw(stamps(st.just(device))))
        second = rule.advance(first, two, data.draw(stamps(st.just(device))))
        assert same(rule.join(first, second), second)
        assert reflects(rule, rule.value(first), two, rule.value(rule.join(first, second)))

    law()


@every_rule
def test_adoption_takes_the_value_over(name: str) -> None:
    """An imported value must look after adoption as it did before, and then merge like any."""
    rule = RULES[name]

    @examples(30, name)
    @given(values_of(rule), stamps())
    def law(value: Any, stamp: tuple[int, int, str]) -> None:
        unchanged = unchanged_by(value)
        state = rule.adopt(value, stamp)
        unchanged()
        assert reflects(rule, ABSENT, value, rule.value(state))
        assert same(rule.join(rule.bottom, state), state)
        assert same(rule.adopt(value, stamp), state)
        assert all(held == stamp for held in rule.stamps(state))

    law()


@every_rule
def test_join_order_does_not_matter_for_a_whole_history(name: str) -> None:
    """Folding proposals in any order must end in one state, or devices would not converge."""
    rule = RULES[name]

    @examples(15, name)
    @given(reachable_states(rule, 4), st.permutations(range(4)))
    def law(states: list[State], order: list[int]) -> None:
        forward, shuffled = rule.bottom, rule.bottom
        for index, position in enumerate(order):
            forward = rule.join(forward, states[index])
            shuffled = rule.join(states[position], shuffled)
        assert same(forward, shuffled)

    law()
