"""Values that a merge must give: laws alone would let a join pass that returns a constant."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import (
    ABSENT,
    Operation,
    Rule,
    best,
    causal_set,
    counter,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    strict,
    union,
)
from merge_rules.testing import Server, World, same, worlds
from merge_rules.testing.generators import devices
from merge_rules.verification.examples import DEVICES
from tests.merge_rules.strategies import examples

THING = record(
    {
        "count": counter,
        "top": maximum,
        "low": minimum,
        "done": flag,
        "star": best("n"),
        "items": union,
        "tags": causal_set,
        "themes": map_of(last_write_wins, removable=True),
    }
)


@examples(300)
@given(worlds(THING, max_steps=10))
def test_every_field_holds_what_the_users_meant(world: World) -> None:
    """Counters sum every change, extremes are exact, and a maximal edit wins every other field."""
    world.verify()


@examples(60)
@given(
    st.lists(st.tuples(devices, st.booleans(), st.integers(-5, 5)), max_size=12),
    st.integers(-5, 5),
)
def test_a_counter_is_the_sum_of_all_changes(
    steps: list[tuple[str, bool, int]], imported: int
) -> None:
    """Increments by PUT and by PATCH, queued or not, count once each, over an imported count."""
    server = Server(counter, [counter.adopt(imported, (1, 0, ""))])
    local = dict.fromkeys(DEVICES, (imported, 0))
    expected = imported
    for name, patched, amount in steps:
        value, version = local[name]
        if patched:
            server.patch(name, Operation("increment", (), amount), (1, 0, name))
            local[name] = counter.value(server.current), server.version
        else:
            server.put(name, version, value + amount, (1, 0, name))
            local[name] = value + amount, version
        expected += amount
        assert counter.value(server.current) == expected


def _queue(rule: Rule, first: Any, *values: Any) -> Any:
    """The value after a device wrote all the values on one base that held `first`."""
    server = Server(rule, [rule.adopt(first, (5, 0, "a"))])
    for value in values:
        server.put("b", 0, value, (1, 0, "b"))
    return rule.value(server.current)


@pytest.mark.parametrize(
    ("rule", "first", "values", "expected"),
    [
        (last_write_wins, "dark", ["light", "dark"], "dark"),
        (counter, 5, [6, 7], 7),
        (counter, 5, [6, 5], 5),
        (causal_set, [], [["x"], []], []),
        (causal_set, ["x"], [[], ["x"]], ["x"]),
        (map_of(counter, removable=True), {}, [{"k": 1}, {}, {"k": 2}], {"k": 2}),
    ],
)
def test_a_queue_on_one_base_ends_in_its_last_write(
    rule: Rule, first: Any, values: list[Any], expected: Any
) -> None:
    """Without the device's own view, an undo or a second increment on one base is lost."""
    assert same(_queue(rule, first, *values), expected)
    inside = record({"f": rule})
    assert same(_queue(inside, {"f": first}, *({"f": v} for v in values)), {"f": expected})


def test_a_slow_clock_does_not_undo_an_edit_that_saw_the_value() -> None:
    """A device whose clock lags by years must still be able to change what it sees."""
    base = last_write_wins.advance(None, "dark", (9_000, 3, "z"))
    edited = last_write_wins.advance(base, "light", (1, 0, "a"))
    assert edited == ((9_000, 4, "a"), "light")


def test_concurrent_edits_are_decided_by_time() -> None:
    """Between two edits that did not see each other the later one stands, whoever syncs last."""
    base = last_write_wins.advance(None, "dark", (1, 0, "a"))
    early = last_write_wins.advance(base, "light", (10, 0, "z"))
    late = last_write_wins.advance(base, "blue", (11, 0, "b"))
    assert last_write_wins.value(last_write_wins.join(late, early)) == "blue"


def test_equal_stamps_are_decided_by_bytes() -> None:
    """Two edits with one stamp must end alike everywhere, even where == sees no difference."""
    stamp = (1, 0, "a")
    for low, high in [(1, 1.0), (1, True), (False, True), ([1.0], [1])]:
        for pair in [(low, high), (high, low)]:
            a, b = ((stamp, item) for item in pair)
            assert same(last_write_wins.join(a, b), (stamp, high))
    assert same(last_write_wins.join((stamp,), (stamp, None)), (stamp, None))


def test_a_removal_beats_an_edit_that_had_not_seen_it() -> None:
    """A theme deleted on one device must not come back half-filled from another's old edit."""
    themes = map_of(record({"uses": counter}), removable=True)
    base = themes.advance({}, {"k": {"uses": 1}}, (1, 0, "a"))
    removed = themes.advance(base, {}, (2, 0, "a"))
    edited = themes.advance(base, {"k": {"uses": 5}}, (3, 0, "b"))
    assert themes.value(themes.join(removed, edited)) == {}
    again = themes.advance(removed, {"k": {"uses": 1}}, (4, 0, "a"))
    assert themes.value(themes.join(again, edited)) == {"k": {"uses": 1}}


def test_a_count_is_held_within_what_json_can_carry() -> None:
    """Two devices may each be in range and their sum not; the value must stay canonical."""
    limit = 2**53 - 1
    both = counter.join({"a": (1, limit)}, {"b": (1, 7)})
    assert counter.value(both) == limit
    assert counter.value({"a": (1, -limit), "b": (1, -7)}) == -limit


def test_strict_replaces_and_joins_by_bytes() -> None:
    """Strict never merges in the service; linking accounts must still end alike everywhere."""
    base = strict.advance(None, {"v": 1}, (1, 0, "a"))
    assert same(strict.advance(base, {"v": 1}, (2, 0, "a")), base)
    assert same(strict.delta(base, {"v": 1}, (2, 0, "a")), None)
    assert same(strict.advance(base, {"v": 0}, (2, 0, "a")), ({"v": 0},))
    assert same(strict.advance(base, {"v": 1.0}, (2, 0, "a")), ({"v": 1.0},))
    for a, b in [((1,), (1.0,)), ((1.0,), (1,))]:
        assert same(strict.join(a, b), (1.0,))
    assert same(strict.join(None, (1,)), (1,))
    assert same(strict.join((1,), None), (1,))
    assert strict.value(None) is ABSENT
