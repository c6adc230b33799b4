"""A value of the wrong type for its rule is refused whole, and the refusal says where."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import Rule, WrongType, best, counter, flag, map_of, maximum, record
from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union
from merge_rules.counter import Counter
from merge_rules.record import Record
from merge_rules.refusal import Path
from merge_rules.scalar import Best, Flag, Maximum
from merge_rules.testing import unchanged_by, values_of
from merge_rules.verification.examples import child_of, names_of
from tests.merge_rules.strategies import RULES, examples, json_values


def wrong_places(rule: Rule, value: Any, path: Path = ()) -> list[Path]:
    """Every path at which the value has a type that its rule cannot merge."""
    match rule:
        case Best():
            if type(value) is not dict:
                return [path]
            return [] if type(value.get(rule.by)) in (int, float) else [(*path, rule.by)]
        case Maximum():
            fits = type(value) in (int, float)
        case Flag():
            fits = type(value) is bool
        case Counter():
            fits = type(value) is int
        case Union() | CausalSet():
            fits = type(value) is list
        case Record() | MapOf() | RemovableMapOf():
            if type(value) is not dict:
                return [path]
            below = [wrong_places(child_of(rule, k), v, (*path, k)) for k, v in value.items()]
            return [place for places in below for place in places]
        case _:
            fits = True
    return [] if fits else [path]


def broken(rule: Rule) -> st.SearchStrategy[Any]:
    """Values of the rule in which something below may be anything."""
    names = [name for name in names_of(rule) if rule.child(name) is not None]
    if not names:
        return json_values(4)
    below = st.sampled_from(names).flatmap(
        lambda name: broken(child_of(rule, name)).map(lambda item: {name: item})
    )
    return below | st.builds(lambda a, b: a | b, values_of(rule), below)


@pytest.mark.parametrize("name", RULES)
def test_check_refuses_exactly_the_wrong_types(name: str) -> None:
    """What passes here is merged without another look, so nothing wrong may pass."""
    rule = RULES[name]

    @examples(40, name)
    @given(
        st.one_of(json_values(4), broken(rule), broken(rule), values_of(rule)),
        st.sampled_from([(), ("at", "x")]),
    )
    def law(value: Any, path: Path) -> None:
        unchanged = unchanged_by(value)
        wrong = wrong_places(rule, value, path)
        if not wrong:
            rule.check(value, path)
        else:
            with pytest.raises(WrongType) as caught:
                rule.check(value, path)
            assert caught.value.path in wrong
        unchanged()

    law()


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (maximum, True, "a maximum takes a number"),
        (RULES["minimum"], "1", "a minimum takes a number"),
        (flag, 1, "a flag takes true or false"),
        (counter, 1.0, "a counter takes an integer"),
        (counter, False, "a counter takes an integer"),
        (RULES["union"], {}, "a union takes an array"),
        (RULES["causal_set"], None, "a causal_set takes an array"),
        (map_of(flag), [], "a map takes an object"),
        (record({}), [], "a record takes an object"),
        (best("n"), {"n": True}, "at /n: best compares by this field: it takes a number"),
        (best("n"), 3, "best takes an object with a number in 'n'"),
        (record({"a/b": map_of(counter)}), {"a/b": {"~": "x"}}, "at /a~1b/~0: a counter takes"),
    ],
)
def test_the_refusal_says_where_and_what(rule: Rule, value: Any, message: str) -> None:
    """A client's author reads this text and must know what to change."""
    with pytest.raises(WrongType, match=r"^(at |a |best )") as caught:
        rule.check(value)
    assert str(caught.value).startswith(message)
