"""Receipts: each path that somebody changed, once, with the side that decided it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import ABSENT, Rule, last_write_wins, map_of, maximum
from merge_rules.receipt import Receipt, explain
from merge_rules.refusal import Path, parse_pointer
from merge_rules.testing import History, histories, same, stamps, unchanged_by, values_of
from merge_rules.testing.generators import devices
from tests.merge_rules.strategies import EVERYTHING, RULES, examples, json_values

SIDES = ("base", "yours", "current", "result")


def at(value: Any, path: Path) -> Any:
    for token in path:
        value = value.get(token, ABSENT) if isinstance(value, dict) else ABSENT
    return value


def assert_explains(rule: Rule, base: Any, yours: Any, current: Any, result: Any) -> Receipt:
    """The receipt is true, has each path once, and leaves out no change and no other path."""
    unchanged = unchanged_by(base, yours, current, result)
    receipt = explain(rule, base, yours, current, result)
    unchanged()
    paths = [parse_pointer(entry["path"]) for entry in receipt]
    assert len({*paths}) == len(paths)
    for entry, path in zip(receipt, paths, strict=True):
        here = {
            name: at(side, path)
            for name, side in zip(SIDES, (base, yours, current, result), strict=True)
        }
        assert same(
            {name: entry[name] for name in SIDES if name in entry},
            {name: side for name, side in here.items() if side is not ABSENT},
        )
        assert not all(same(side, here["base"]) for side in here.values()), "somebody changed it"
        mine, theirs = same(here["result"], here["yours"]), same(here["result"], here["current"])
        expected = {(True, False): "yours", (False, True): "current"}.get((mine, theirs), "both")
        assert entry["decided"] == expected
        assert entry["rule"] == rule_at(rule, path).describe()
    for side in (yours, current, result):
        assert_covered((), base, side, paths)
    return receipt


def rule_at(rule: Rule, path: Path) -> Rule:
    for token in path:
        child = rule.child(token)
        assert child is not None
        rule = child
    return rule


def assert_covered(path: Path, base: Any, side: Any, paths: list[Path]) -> None:
    """Wherever a side differs from the base, the receipt has an entry there, above or below."""
    if same(base, side):
        return
    assert any(path[: len(p)] == p or p[: len(path)] == path for p in paths), path
    if isinstance(base, dict) and isinstance(side, dict):
        for token in {**base, **side}:
            inner = base.get(token, ABSENT), side.get(token, ABSENT)
            assert_covered((*path, token), *inner, paths)


@pytest.mark.parametrize("name", RULES)
def test_a_receipt_tells_every_change_of_a_merge(name: str) -> None:
    """A person reads it to see why an edit is gone, so it must be complete and true."""
    rule = RULES[name]

    @examples(30, name)
    @given(histories(rule), devices, st.integers(0, 9), values_of(rule), st.data())
    def law(history: History, device: str, back: int, sent: Any, data: st.DataObject) -> None:
        server = history.server
        version = max(0, server.version - back)
        base, current = server.base(device, version), server.current
        delta = rule.delta(base, sent, data.draw(stamps(st.just(device))))
        proposed, merged = rule.join(base, delta), rule.join(current, delta)
        assert_explains(rule, *map(rule.value, (base, proposed, current, merged)))

    law()


@examples(150)
@given(st.tuples(*[st.just(ABSENT) | json_values(5)] * 4))
def test_a_receipt_is_true_of_any_four_values(values: tuple[Any, Any, Any, Any]) -> None:
    """Documents adopted from another rule may have any shape, and still need a receipt."""
    for rule in (map_of(map_of(last_write_wins)), map_of(last_write_wins), maximum):
        assert_explains(rule, *values)


@examples(50)
@given(values_of(EVERYTHING))
def test_no_change_is_an_empty_receipt(value: Any) -> None:
    """Paths that nobody touched are noise in front of the one that matters."""
    assert explain(EVERYTHING, value, value, value, value) == []
    assert explain(EVERYTHING, ABSENT, ABSENT, ABSENT, ABSENT) == []


def test_an_example_with_every_outcome() -> None:
    """The shape that the console and the API show, with pointers escaped and sides left out."""
    rule = EVERYTHING
    base = {"top": 5, "count": 1, "theme": "dark", "a/b": 1, "levels": {"l1": 1}}
    yours = {**base, "top": 7, "count": 2, "theme": "light", "new": None}
    current = {**base, "top": 6, "count": 3, "theme": "blue", "levels": {"l1": 1, "l~2": 2}}
    result = {**current, "top": 7, "count": 4, "new": None}
    assert explain(rule, base, yours, current, result) == [
        {
            "path": "/count",
            "rule": "counter",
            "decided": "both",
            "base": 1,
            "yours": 2,
            "current": 3,
            "result": 4,
        },
        {
            "path": "/levels/l~02",
            "rule": "maximum",
            "decided": "current",
            "current": 2,
            "result": 2,
        },
        {
            "path": "/new",
            "rule": "last_write_wins",
            "decided": "yours",
            "yours": None,
            "result": None,
        },
        {
            "path": "/theme",
            "rule": "last_write_wins",
            "decided": "current",
            "base": "dark",
            "yours": "light",
            "current": "blue",
            "result": "blue",
        },
        {
            "path": "/top",
            "rule": "maximum",
            "decided": "yours",
            "base": 5,
            "yours": 7,
            "current": 6,
            "result": 7,
        },
    ]


def test_a_change_that_only_bytes_show_is_in_the_receipt() -> None:
    """1 and 1.0 are two values, so that a write of one over the other is a change."""
    assert [entry["decided"] for entry in explain(last_write_wins, 1, 1.0, 1, 1.0)] == ["yours"]


def test_both_sides_that_agree_decide_together() -> None:
    """Two devices that made one change: neither won, and it is still a change."""
    assert explain(last_write_wins, 1, 2, 2, 2)[0]["decided"] == "both"
