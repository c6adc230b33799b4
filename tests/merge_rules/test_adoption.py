"""When a rule changes, old states become new ones in one defined way, or the change is refused."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given

from merge_rules import (
    Rule,
    State,
    best,
    causal_set,
    counter,
    days,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    resettable,
    samples,
    strict,
    union,
)
from merge_rules.adoption import adopt_state, refused_changes
from merge_rules.definition import rule_from
from merge_rules.refusal import Refusal
from merge_rules.rule import ABSENT
from merge_rules.scalar import Maximum
from merge_rules.testing import reachable_states, same
from tests.merge_rules.strategies import examples

AT = (50, 0, "")
RULES: dict[str, Rule] = {
    rule.describe(): rule
    for rule in (
        *(last_write_wins, maximum, minimum, flag, counter, union, causal_set, days, strict),
        *(best("n"), samples(3, 0.5), map_of(maximum), map_of(counter, removable=True)),
        *(resettable(counter), record({"n": counter}), record({"n": maximum, "x": union})),
    )
}


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_made_again_from_its_own_words(name: str) -> None:
    """A state of an earlier release can be read only if its rule can be made again."""
    made = rule_from(name, {})
    assert made is not None
    assert made.fingerprint == RULES[name].fingerprint


OTHER_WORDS = [
    *("", "maximum()", "exec('x')", "counter.join", "__import__", "record(1)", "map_of(gone)"),
    *("best(n)", "record({'a': 5}, counter)", "samples(0, 2)", "(" * 500, "map_of(strict)", "é("),
    *("5", "{'a': counter}", "record({})", "map_of( counter )", "record({**counter}, flag)"),
]


@pytest.mark.parametrize("words", OTHER_WORDS)
def test_other_words_make_no_rule(words: str) -> None:
    """Words come from a table: whatever stands there is never run."""
    assert rule_from(words, {}) is None


def test_an_apps_own_rule_is_found_by_its_words() -> None:
    """Inside a record that changed, a rule of the app's own that did not change is known."""

    class Own(Maximum):
        name = "own"

    own = Own()
    made = rule_from("map_of(own)", {"own": own})
    assert made is not None
    assert made.describe() == "map_of(own)"


@pytest.mark.parametrize(("old", "new"), list(product(RULES, repeat=2)))
def test_each_pair_is_defined_or_refused(old: str, new: str) -> None:
    """Nothing is left to chance: a pair is refused, or shows the same value wherever it fits."""
    before, after = RULES[old], RULES[new]
    refused = refused_changes(before, after)

    @examples(8)
    @given(reachable_states(before, 1))
    def law(states: list[State]) -> None:
        (state,) = states
        value = before.value(state)
        try:
            adopted = adopt_state(before, state, after, AT)
        except Refusal:
            return
        if value is ABSENT:
            return
        if refused and refused[0].startswith("the document"):
            assert value in ({}, [])
        if after.name not in ("days", "samples") and before.name != "union":
            assert same(_shown(after.value(adopted)), _shown(value))
        again = adopt_state(before, state, after, AT)
        assert same(again, adopted)
        assert same(after.join(adopted, adopted), adopted)

    law()


def _shown(value: Any) -> Any:
    """An empty object may be no value, and a set has no order."""
    if isinstance(value, list):
        return sorted(value, key=repr)
    return value if value not in ({}, ABSENT) else None


def test_fields_that_stay_keep_their_stamps() -> None:
    """What one field became must not make the others look as if they were written just now."""
    old = record({"n": last_write_wins})
    state = {"n": ((7, 0, "a"), 5), "name": ((9, 1, "b"), "x"), "gone": ((8, 0, "b"),)}
    new = record({"n": counter})
    adopted = adopt_state(old, state, new, AT)
    assert adopted == {"n": {"": (1, 5)}, "name": state["name"], "gone": state["gone"]}
    back = adopt_state(new, adopted, old, AT)
    assert back["n"] == (AT, 5)


def test_an_imported_count_of_zero_is_no_count() -> None:
    """It would be stored for every field that an app fills with zeros."""
    assert counter.adopt(0, AT) == counter.bottom


def test_epochs_and_samples_are_carried_over() -> None:
    """A rule that can be reset stays reset; a longer or shorter average keeps its samples."""
    assert adopt_state(resettable(counter), (3, {"a": (1, 5)}), resettable(maximum), AT) == (3, 5)
    assert adopt_state(counter, {"a": (1, 5)}, resettable(counter), AT) == (0, {"a": (1, 5)})
    assert adopt_state(counter, {"a": (1, 5)}, resettable(last_write_wins), AT) == (0, (AT, 5))
    assert adopt_state(resettable(counter), (3, {"a": (1, 5)}), last_write_wins, AT) == (AT, 5)
    assert adopt_state(resettable(counter), (3, {"a": (1, 5)}), counter, AT) == {"a": (1, 5)}
    kept = [((1, 0, "a"), 1), ((2, 0, "a"), 2), ((3, 0, "a"), 3)]
    assert adopt_state(samples(3, 0.5), kept, samples(2, 0.3), AT) == kept[1:]
    removable = {"x": (3, ((5, 0, "a"), 1)), "y": (2, None)}
    adopted = adopt_state(map_of(last_write_wins, removable=True), removable, record({}), AT)
    assert adopted == {"x": ((5, 0, "a"), 1)}


def test_a_refused_change_names_the_path_and_both_rules() -> None:
    """The operator reads this at the start, and has to find the line to change."""
    old = record({"levels": map_of(record({"stars": maximum})), "n": counter})
    new = record({"levels": map_of(record({"stars": union})), "n": flag})
    assert refused_changes(old, new) == [
        "/levels/*/stars was maximum, which is a number; union takes an array",
        "/n was counter, which is a number; flag takes a boolean",
    ]
    assert refused_changes(old, record({})) == []
    assert refused_changes(counter, days) == [
        "the document was counter, which is a number; days takes a string or an array or an object"
    ]


def test_a_change_is_refused_wherever_it_hides() -> None:
    """Behind a reset that came or went, and where only one of both rules names the field."""
    number, boolean = record({"n": counter}), record({"n": flag})
    at_n = ["/n was counter, which is a number; flag takes a boolean"]
    assert refused_changes(resettable(number), boolean) == at_n
    assert refused_changes(number, resettable(boolean)) == at_n
    assert refused_changes(number, record({}, default=flag)) == at_n
    assert refused_changes(record({}, default=counter), record({"n": flag}, counter)) == at_n
    inside = record({"a": resettable(number)}), record({"a": resettable(boolean)})
    assert refused_changes(*inside) == ["/a" + at_n[0]]


def test_a_value_that_does_not_fit_names_its_path() -> None:
    """The pair is defined, this one document is not: its path says where."""
    state = {"n": ((7, 0, "a"), "many")}
    with pytest.raises(Refusal) as caught:
        adopt_state(record({}), state, record({"n": counter}), AT)
    assert caught.value.path == ("n",)
