"""Samples and days: values computed from what was added, whoever added it and in which order."""

from datetime import date, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import (
    ABSENT,
    Operation,
    OperationRefused,
    Rule,
    WrongType,
    canonical,
    counter,
    days,
    flag,
    map_of,
    record,
    resettable,
    samples,
)
from merge_rules.rule import OperationName
from merge_rules.stamp import ZERO
from merge_rules.state import Stored, decode, encode
from tests.merge_rules.strategies import examples

SPEED = samples(3, 0.3)


def add(value: Any, *path: str) -> Operation:
    return Operation("add", path, value)


# --- samples --------------------------------------------------------------------------------


def test_samples_are_the_moving_average_of_the_sources() -> None:
    """0.7 of the old and 0.3 of the new, as the apps have computed it until now."""
    state = SPEED.bottom
    for at, sample in enumerate((2.0, 3.0, 4.0)):
        state = SPEED.advance(state, sample, (at, 0, "a"))
    assert SPEED.value(state) == (1 - 0.3) * ((1 - 0.3) * 2.0 + 0.3 * 3.0) + 0.3 * 4.0


def test_only_the_newest_samples_count() -> None:
    """The state is bounded, whatever is added."""
    state = SPEED.bottom
    for at in range(10):
        state = SPEED.advance(state, at * 1.5, (at, 0, "a"))
    assert [sample for _, sample in state] == [10.5, 12.0, 13.5]


def test_samples_of_two_devices_in_any_order() -> None:
    """A moving average that depends on who synced first is not one."""
    states = [[((at, 0, device), at + 0.5)] for at, device in ((1, "a"), (2, "b"), (3, "a"))]
    for order in permutations(states):
        joined = SPEED.bottom
        for state in order:
            joined = SPEED.join(joined, state)
        assert joined == [((1, 0, "a"), 1.5), ((2, 0, "b"), 2.5), ((3, 0, "a"), 3.5)]


def test_a_sample_sent_along_again_counts_once() -> None:
    """An app writes whole documents: the field goes along with every other edit."""
    rule = record({"speed": SPEED})
    state = rule.advance({}, {"speed": 2.0}, (1, 0, "a"))
    state = rule.advance(state, {"speed": 3.0}, (2, 0, "a"))
    again = rule.advance(state, {"speed": 3.0, "name": "x"}, (3, 0, "a"))
    average = rule.advance(state, {"speed": 2.3, "name": "x"}, (3, 0, "b"))
    assert again["speed"] == average["speed"] == state["speed"]
    same_again = rule.operate(state, add(3.0, "speed"), ("speed",), (4, 0, "a"))
    assert len(rule.apply(state, same_again)["speed"]) == 3


def test_a_sample_follows_those_that_its_device_had_seen() -> None:
    """A slow clock must not put the newest sample before the older ones."""
    seen = [((5, 0, "b"), 2.0)]
    written = SPEED.delta(seen, 3.0, (1, 0, "a"))
    assert written == SPEED.operate(seen, add(3.0), (), (1, 0, "a")) == [((5, 1, "a"), 3.0)]
    assert SPEED.delta(seen, 3.0, (9, 0, "a")) == [((9, 0, "a"), 3.0)]


def test_a_base_that_is_not_kept_is_known_by_its_average() -> None:
    """An average sent back is no sample, and a sample follows what its device had seen."""
    held = [((5, 0, "b"), 4.0), ((6, 0, "b"), 8.0)]
    assert SPEED.reconstruct(SPEED.value(held), held, "a") == held
    assert SPEED.reconstruct(4.0, held, "a") == [(ZERO, 4.0)]
    assert SPEED.reconstruct(ABSENT, held, "a") == []
    assert SPEED.reconstruct(4.0, [], "a") == [(ZERO, 4.0)]


def test_an_average_is_never_minus_zero() -> None:
    """Canonical JSON has no -0.0, and the least of numbers halved is one."""
    rule = samples(2, 0.5)
    least = -5e-324
    assert canonical.encode(rule.value([((1, 0, "a"), least), ((2, 0, "a"), least)])) == b"0.0"


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.5), (1_000, 0.5), (3, 1)])
def test_samples_take_what_their_limits_allow(k: int, alpha: float) -> None:
    """One sample, a thousand, or a weight of one: the last sample alone."""
    state = samples(k, alpha).advance([], 2.0, (1, 0, "a"))
    assert samples(k, alpha).value(state) == 2.0


@pytest.mark.parametrize(("k", "alpha"), [(0, 0.5), (1001, 0.5), (3, 0), (3, 1.1), (3, -1)])
def test_samples_refuse_what_they_cannot_mean(k: int, alpha: float) -> None:
    """A wrong parameter is found when the rule is written, not in a user's document."""
    with pytest.raises(ValueError, match=r"samples|alpha"):
        samples(k, alpha)


@pytest.mark.parametrize(("rule", "fits", "wrong"), [(SPEED, 3.0, "3"), (days, "2026-11-21", 3)])
def test_samples_and_days_are_set_and_added_to_and_nothing_else(
    rule: Rule, fits: Any, wrong: Any
) -> None:
    """The operations of a PATCH: at the field itself, with its type, or refused by its path."""
    whole = record({"x": rule})
    ops: tuple[OperationName, ...] = ("set", "add")
    for op in ops:
        operation = Operation(op, ("x",), fits)
        assert whole.operate({}, operation, ("x",), (1, 0, "a")) == {
            "x": rule.delta(rule.bottom, fits, (1, 0, "a"))
        }
        with pytest.raises(WrongType) as refused:
            whole.operate({}, operation._replace(value=wrong), ("x",), (1, 0, "a"))
        assert refused.value.path == ("x",)
    refused_ones = [*(Operation(op, ("x", "y"), fits) for op in ops)]
    for operation in (*refused_ones, Operation("increment", ("x",), fits)):
        with pytest.raises(OperationRefused) as caught:
            whole.operate({}, operation, operation.path, (1, 0, "a"))
        assert caught.value.path == operation.path


def test_no_sample_takes_no_room() -> None:
    """A field that nobody has measured yet costs no byte."""
    assert encode(SPEED, []) == Stored(None, b"")
    assert decode(SPEED, Stored(None, b"")) == []


@examples(60)
@given(st.lists(st.floats(-1e300, 1e300) | st.integers(-(2**53) + 1, 2**53 - 1), max_size=6))
def test_samples_come_back_from_storage(numbers: list[float]) -> None:
    """The average alone does not say which samples made it."""
    state = SPEED.bottom
    for at, number in enumerate(numbers):
        state = SPEED.advance(state, number + 0.0 if number else 0, (at, 0, "ab"[at % 2]))
    assert decode(SPEED, encode(SPEED, state)) == state


# --- days -----------------------------------------------------------------------------------


def streaks(named: set[date]) -> dict[str, Any]:
    """The oracle: count by hand."""
    runs: list[int] = []
    for day in sorted(named):
        if day - timedelta(1) in named:
            runs[-1] += 1
        else:
            runs.append(1)
    last = max(named).isoformat()
    return {"current": runs[-1], "longest": max(runs), "total": len(named), "last": last}


@examples(100)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.dates(date(2026, 2, 20), date(2026, 3, 10)))))
def test_streaks_survive_two_devices(added: list[tuple[str, date]]) -> None:
    """Devices used on alternate days each see gaps; together they see none."""
    sides = {"a": days.bottom, "b": days.bottom}
    for device, day in added:
        sides[device] = days.advance(sides[device], day.isoformat(), (1, 0, device))
    joined = days.join(sides["a"], sides["b"])
    assert joined == days.join(sides["b"], sides["a"])
    assert decode(days, encode(days, joined)) == joined
    if added:
        assert days.value(joined) == streaks({day for _, day in added})
    else:
        assert joined == days.bottom


def test_days_can_be_written_in_three_ways() -> None:
    """One day, several at once after an offline week, or the object that the app reads."""
    state = days.advance(days.bottom, ["2026-11-18", "2026-11-19"], (1, 0, "a"))
    state = days.advance(state, "2026-11-20", (2, 0, "a"))
    shown = days.value(state)
    assert days.advance(state, shown, (3, 0, "a")) == state
    state = days.advance(state, {**shown, "last": "2026-11-21"}, (4, 0, "a"))
    assert days.value(state)["current"] == 4


NO_DAYS = [
    *(5, True, None, "2026-1-1", "2026-02-30", "20261121", "2026-11-21T00:00", "", [], [1], [None]),
    *({}, {"last": 3}, {"current": 3}, ["2026-11-21", "x"], "2026-W01-1", "２０２６-11-21"),
]


@pytest.mark.parametrize("wrong", NO_DAYS)
def test_days_refuse_what_is_no_day(wrong: Any) -> None:
    """A streak is computed from these; a guess would be shown to a user."""
    with pytest.raises(WrongType):
        days.check(wrong)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [(3, ()), ([], ()), (["2026-11-21", "x"], ("1",)), ({"last": "x"}, ("last",))],
)
def test_the_refused_day_is_named_by_its_path(wrong: Any, path: tuple[str, ...]) -> None:
    """Of a week of days one may be wrong."""
    with pytest.raises(WrongType) as caught:
        record({"done": days}).check({"done": wrong})
    assert caught.value.path == ("done", *path)
    with pytest.raises(WrongType) as caught:
        record({"speed": SPEED}).check({"speed": "x"})
    assert caught.value.path == ("speed",)


def test_a_day_that_is_known_is_no_change() -> None:
    """Wherever in a streak it lies; else every such write would make a version."""
    known = [(date(2026, 1, 1).toordinal(), date(2026, 1, 5).toordinal())]
    known += [(date(2026, 2, 1).toordinal(), date(2026, 2, 9).toordinal())]
    for day in ("2026-01-01", "2026-01-03", "2026-01-05", "2026-02-01", "2026-02-04"):
        assert days.delta(known, day, (1, 0, "a")) == []
    for day in ("2025-12-31", "2026-01-06", "2026-01-31", "2026-02-10"):
        assert days.delta(known, day, (1, 0, "a")) != []


def test_an_imported_streak_keeps_its_record() -> None:
    """Another system gives counts and no days; the longest streak must not be lost."""
    shown = {"current": 3, "longest": 30, "total": 99, "last": "2026-11-21"}
    state = days.adopt(shown, (1, 0, ""))
    assert days.value(state) == {**shown, "total": 33}
    for odd in (
        {"last": "0001-01-01", "current": 50, "longest": 100},
        {"last": "2026-11-21", "current": -4, "longest": "x"},
        {"last": "2026-11-21"},
    ):
        assert days.value(days.adopt(odd, (1, 0, "")))["current"] >= 1
    first_days = {"last": "0001-01-10", "current": 2, "longest": 100}
    assert days.adopt(first_days, (1, 0, "")) == [(1, 7), (9, 10)]


def test_many_days_at_once_cost_no_square() -> None:
    """An array of days is input from outside: its cost must not grow with what is stored."""
    first = date(1000, 1, 1)
    every_other = [(first + timedelta(2 * n)).isoformat() for n in range(20_000)]
    state = days.advance(days.bottom, every_other, (1, 0, "a"))
    assert days.value(days.advance(state, every_other[::-1], (2, 0, "a")))["total"] == 20_000


# --- resettable -----------------------------------------------------------------------------


def test_a_reset_beats_every_edit_that_had_not_seen_it() -> None:
    """However much a late device has counted, the counter stays where it was set anew."""
    rule = resettable(counter)
    base = rule.advance(rule.bottom, 5, (1, 0, "a"))
    reset = rule.apply(base, rule.operate(base, Operation("reset", ()), (), (2, 0, "a")))
    late = rule.advance(base, 500, (3, 0, "b"))
    assert rule.value(rule.join(reset, late)) == rule.value(rule.join(late, reset)) == 0
    after = rule.advance(reset, 2, (4, 0, "b"))
    assert rule.value(rule.join(late, after)) == 2
    twice = rule.operate(base, Operation("reset", ()), (), (2, 0, "b"))
    assert rule.join(reset, rule.apply(base, twice)) == reset
    assert decode(rule, encode(rule, after)) == after


def test_what_can_be_reset_is_its_rule_otherwise() -> None:
    """Types, paths and storage are those of the rule inside; a reset never made costs no byte."""
    rule = record({"life": resettable(map_of(counter))})
    with pytest.raises(WrongType) as caught:
        rule.check({"life": {"hearts": "x"}})
    assert caught.value.path == ("life", "hearts")
    path = ("life", "hearts")
    delta = rule.operate({}, Operation("increment", path, 2), path, (1, 0, "a"))
    assert delta == {"life": (0, {"hearts": {"a": (1, 2)}})}
    assert resettable(counter).adopt(5, (1, 0, "")) == (0, {"": (1, 5)})
    assert encode(resettable(flag), (0, True)) == Stored(b"true", b"")
    lives = map_of(resettable(counter), removable=True)
    mine, yours = {"a": (1, (1, {"a": (1, 2)}))}, {"b": (1, (0, {"b": (1, 3)}))}
    assert lives.join(mine, yours) == {**mine, **yours}
