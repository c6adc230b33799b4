"""Folding forgets what nobody needs; every later write means what it would have meant."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import Rule, State, causal_set, counter, last_write_wins, map_of, record, samples
from merge_rules.documents import GAME_STATS, SETTINGS
from merge_rules.epoch import resettable
from merge_rules.state import encode
from merge_rules.testing import reachable_states, same, values_of
from tests.merge_rules.strategies import examples

RULES: dict[str, Rule] = {
    "counter": counter,
    "causal_set": causal_set,
    "removable": map_of(record({"n": counter}), removable=True),
    "settings": SETTINGS,
    "game_stats": GAME_STATS,
    "resettable": resettable(counter),
    "samples": record({"speed": samples(3, 0.5)}),
}
HORIZON_MS = 3


@pytest.mark.parametrize("name", RULES)
def test_a_write_on_a_folded_state_is_the_write(name: str) -> None:
    """A device that pulled the document before or after the folding writes the same."""
    rule = RULES[name]

    @examples(60)
    @given(reachable_states(rule, 1), values_of(rule), st.sets(st.sampled_from("abc")))
    def law(states: list[State], value: Any, alive: set[str]) -> None:
        (state,) = states
        folded = rule.fold(state, HORIZON_MS, alive)
        assert same(rule.value(folded), rule.value(state))
        assert same(rule.fold(folded, HORIZON_MS, alive), folded)
        stamp = (100, 0, "a")
        written = rule.value(rule.advance(state, value, stamp))
        assert same(rule.value(rule.advance(folded, value, stamp)), written)
        seen = rule.reconstruct(rule.value(state), folded, "a")
        late = rule.join(folded, rule.delta(seen, value, stamp))
        assert same(rule.value(late), written)

    law()


def test_what_folding_forgets() -> None:
    """Dead devices become one entry, removals go, old stamps become one."""
    state = {"a": (3, 5), "b": (1, -2), "c": (2, 1), "": (1, 10)}
    assert counter.fold(state, 0, {"c"}) == {"c": (2, 1), "": (5, 13)}
    assert causal_set.fold({'"x"': 2, '"y"': 3}, 0, ()) == {'"y"': 3}
    assert last_write_wins.fold(((5, 2, "a"), 1), 6, ()) == ((6, 0, ""), 1)
    assert last_write_wins.fold(((6, 0, "a"), 1), 6, ()) == ((6, 0, "a"), 1)
    assert last_write_wins.fold(((5, 0, "a"),), 6, ()) is None
    for rule in (record({}), map_of(last_write_wins)):
        assert rule.fold({"gone": ((5, 0, "a"),), "kept": ((9, 0, "a"),)}, 6, ()) == {
            "kept": ((9, 0, "a"),)
        }


def test_a_folded_sidecar_is_small() -> None:
    """A hundred phones in ten years: the document still stands beside a few bytes."""
    rule, state = GAME_STATS, GAME_STATS.bottom
    for number in range(100):
        value = {"games_played": number + 1, f"field_{number % 9}": number}
        state = rule.advance(state, value, (number, 0, f"phone-{number:03}"))
    assert len(encode(rule, state).sidecar) > 1_000
    assert len(encode(rule, rule.fold(state, 1_000, ())).sidecar) < 40
