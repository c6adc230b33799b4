"""Samples and days: values computed from what was added, whoever added it and in which order."""

from datetime import date, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import Operation, WrongType, counter, days, record, resettable, samples
from merge_rules.state import decode, encode
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


@pytest.mark.parametrize(("k", "alpha"), [(0, 0.5), (1001, 0.5), (3, 0), (3, 1.1), (3, -1)])
def test_samples_refuse_what_they_cannot_mean(k: int, alpha: float) -> None:
    """A wrong parameter is found when the rule is written, not in a user's document."""
    with pytest.raises(ValueError, match=r"samples|alpha"):
        samples(k, alpha)


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
