"""A base told by its plain value must do the work of the base itself, once history is gone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import (
    ABSENT,
    Rule,
    State,
    causal_set,
    counter,
    last_write_wins,
    map_of,
    record,
    resettable,
)
from merge_rules.collection import CausalSet, MapOf, RemovableMapOf
from merge_rules.record import Record
from merge_rules.register import LastWriteWins
from merge_rules.testing import (
    History,
    exact,
    histories,
    one_of_exactly,
    same,
    stamps,
    unchanged_by,
    values_of,
)
from merge_rules.testing.generators import devices
from merge_rules.verification.examples import DEVICES, child_of
from tests.merge_rules.strategies import RULES, examples


def flips(state: State, key: str) -> int:
    """The causal length of a key or item."""
    entry = state.get(key, 0)
    return entry if isinstance(entry, int) else int(entry[0])


def assert_as_good(
    rule: Rule, base: State, current: State, sent: Any, truth: Any, got: Any
) -> None:
    """`got` is `truth`, or, where the plain value cannot tell, what one of both sides wrote.

    A plain value does not tell when it was written. Where others changed a place after the
    base, the device's edit of it is concurrent with theirs, so that either may stand. Where
    nobody did, or the device left it alone, the result must be the true one.
    """
    match rule:
        case LastWriteWins():
            seen = rule.value(base)
            if same(base, current) or same(seen, sent) or sent is ABSENT:
                assert same(got, truth)
            else:
                assert one_of_exactly(got, [truth, sent, rule.value(current)])
        case CausalSet():
            got_items, true_items, sent_items, base_items = (
                {*map(exact, items)} for items in (got, truth, sent, rule.value(base))
            )
            for item in got_items | true_items | sent_items:
                text = item.decode()
                told_apart = flips(current, text) - flips(base, text) <= 1
                left_alone = (item in sent_items) == (item in base_items)
                if told_apart or left_alone:
                    assert (item in got_items) == (item in true_items)
                else:
                    assert (item in got_items) in (item in true_items, item in sent_items)
        case Record() | MapOf():
            assert {*got} == {*truth}
            for key in {*truth} & {*sent}:
                child = child_of(rule, key)
                states = base.get(key, child.bottom), current.get(key, child.bottom)
                assert_as_good(child, *states, sent[key], truth[key], got[key])
            assert all(same(got[key], truth[key]) for key in {*truth} - {*sent})
        case RemovableMapOf():
            for key in {*got, *truth, *sent}:
                lengths = flips(base, key), flips(current, key)
                here = got.get(key, ABSENT), truth.get(key, ABSENT)
                if same(rule.value(base).get(key, ABSENT), sent.get(key, ABSENT)):
                    assert same(*here)
                if lengths[0] == lengths[1] and ABSENT not in here and key in sent:
                    below = base[key][1] if key in base else rule.rule.bottom
                    above = current[key][1] if key in current else rule.rule.bottom
                    assert_as_good(rule.rule, below, above, sent[key], here[1], here[0])
                elif lengths[1] - lengths[0] <= 1:
                    assert (here[0] is ABSENT) == (here[1] is ABSENT), (key, lengths)
                # Removed and made again since: whichever side stands, both are edits.
        case _:
            assert same(got, truth)


@pytest.mark.parametrize("name", RULES)
def test_a_reconstructed_base_serves_as_the_base(name: str) -> None:
    """A device that was away for longer than the history must not lose or double its edits."""
    rule = RULES[name]

    @examples(60, name)
    @given(histories(rule), devices, st.integers(0, 9), values_of(rule), st.data())
    def law(history: History, device: str, back: int, sent: Any, data: st.DataObject) -> None:
        server = history.server
        own = server.own.get(device)
        oldest = own.version if own else 0
        version = max(oldest, server.version - back)
        base, current = server.versions[version], server.current
        unseen = version == 0 and same(base, rule.bottom)
        value = ABSENT if unseen else rule.value(base)
        stamp = data.draw(stamps(st.just(device)))
        unchanged = unchanged_by(base, current, value)
        rebuilt = rule.reconstruct(value, current, device)
        unchanged()
        truth = rule.value(rule.join(current, rule.delta(base, sent, stamp)))
        got = rule.value(rule.join(current, rule.delta(rebuilt, sent, stamp)))
        if same(base, current):
            assert same(got, truth)
        assert_as_good(rule, base, current, sent, truth, got)

    law()


@pytest.mark.parametrize("name", RULES)
def test_sending_back_what_was_seen_changes_nothing(name: str) -> None:
    """A device that resends the document that it had is no editor, however old its copy."""
    rule = RULES[name]

    @examples(30, name)
    @given(histories(rule), st.sampled_from([*DEVICES, ""]), st.integers(0, 9))
    def law(history: History, device: str, back: int) -> None:
        server = history.server
        own = server.own.get(device)
        version = max(own.version if own else 0, server.version - back)
        value = rule.value(server.versions[version])
        if value is not ABSENT:
            rebuilt = rule.reconstruct(value, server.current, device)
            delta = rule.delta(rebuilt, value, (3, 0, device))
            assert same(rule.join(server.current, delta), server.current)

    law()


def test_regression_a_slow_clock_with_a_reconstructed_base_lost_its_edit() -> None:
    """The base was rebuilt with the zero stamp, so an edit by a slow clock lost to what it saw."""
    rule = record({})
    current = rule.advance({}, {"theme": "dark"}, (9_000, 0, "a"))
    base = rule.reconstruct({"theme": "dark"}, current, "b")
    edit = rule.delta(base, {"theme": "light"}, (1, 0, "b"))
    assert rule.value(rule.join(current, edit)) == {"theme": "light"}


def test_regression_a_slow_clock_could_not_bring_back_a_field_taken_away() -> None:
    """The same for a tombstone: a device that saw no field and sets it has seen it gone."""
    rule = map_of(last_write_wins)
    current = rule.join({}, {"k": ((9_000, 0, "a"),)})
    edit = rule.delta(rule.reconstruct({}, current, "b"), {"k": 1}, (1, 0, "b"))
    assert rule.value(rule.join(current, edit)) == {"k": 1}


def test_regression_no_device_and_an_imported_count() -> None:
    """A writer without a device sent an imported count back unchanged, and got a refusal."""
    current = counter.adopt(100, (1, 0, ""))
    rebuilt = counter.reconstruct(100, current, "")
    assert counter.value(rebuilt) == 100
    assert counter.delta(rebuilt, 100, (2, 0, "")) == counter.bottom


def test_a_rebuilt_count_gives_the_device_its_own_entry() -> None:
    """The next increment must be the device's next write, or the join would drop it."""
    current = {"a": (4, 10), "b": (1, 5)}
    rebuilt = counter.reconstruct(12, current, "a")
    assert counter.delta(rebuilt, 13, (1, 0, "a")) == {"a": (5, 11)}
    assert counter.value(counter.join(current, {"a": (5, 11)})) == 16


def test_a_removal_is_kept_though_others_removed_and_added_since() -> None:
    """From a value alone it is open which addition was seen; the user's removal then stands."""
    rebuilt = causal_set.reconstruct(["x"], {'"x"': 3}, "a")
    assert causal_set.delta(rebuilt, [], (1, 0, "a")) == {'"x"': 4}


def test_a_device_that_never_counted_begins_with_its_first_write() -> None:
    """What it saw was counted by others, all of it."""
    rebuilt = counter.reconstruct(5, {"b": (4, 5)}, "a")
    assert counter.delta(rebuilt, 6, (1, 0, "a")) == {"a": (1, 1)}


def test_what_a_device_saw_may_be_known_to_nobody_any_more() -> None:
    """A removal may have been folded away with the item, or the document made anew."""
    assert causal_set.reconstruct(["x"], {}, "a") == {'"x"': 1}
    for rule in (map_of(resettable(counter)), record({"k": resettable(counter)})):
        rebuilt = rule.reconstruct({"k": 5}, {}, "a")
        assert rule.value(rebuilt) == {"k": 5}
        assert rule.delta(rebuilt, {"k": 7}, (1, 0, "a")) == {"k": (0, {"a": (1, 2)})}
    lives = map_of(resettable(counter), removable=True)
    for current in ({}, {"k": (2, lives.rule.bottom)}):  # type: ignore[attr-defined]
        rebuilt = lives.reconstruct({"k": 5}, current, "a")
        assert lives.delta(rebuilt, {"k": 7}, (1, 0, "a")) == {"k": (1, (0, {"a": (1, 2)}))}


def test_what_a_device_saw_is_the_last_time_that_it_was_so() -> None:
    """Of an item removed since it was there, and of one added since it was not."""
    assert causal_set.reconstruct(["x"], {'"x"': 4}, "a") == {'"x"': 3}
    assert causal_set.reconstruct([], {'"x"': 3}, "a") == {'"x"': 2}
    assert causal_set.reconstruct([], {'"x"': 1}, "a") == {'"x"': 0}


def test_a_count_under_a_key_goes_on_from_the_devices_own_entry() -> None:
    """As for a counter alone; else the next increment would be dropped as an old one."""
    rule = map_of(counter, removable=True)
    rebuilt = rule.reconstruct({"k": 12}, {"k": (3, {"a": (4, 10), "b": (1, 9)})}, "a")
    assert rule.delta(rebuilt, {"k": 13}, (1, 0, "a")) == {"k": (3, {"a": (5, 11)})}


def test_a_device_that_saw_another_value_has_not_seen_the_write() -> None:
    """Its edit is as old as its clock says, and what it sends back unchanged is no edit."""
    current = ((9, 0, "b"), "later")
    for seen in (ABSENT, "earlier"):
        rebuilt = last_write_wins.reconstruct(seen, current, "a")
        edit = last_write_wins.delta(rebuilt, "x", (1, 0, "a"))
        assert edit == ((1, 0, "a"), "x")
    assert last_write_wins.delta(rebuilt, "earlier", (1, 0, "a")) is None
