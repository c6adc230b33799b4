"""The rules that these tests go through, and plain JSON of any kind."""

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from merge_rules import (
    Rule,
    State,
    best,
    causal_set,
    counter,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    union,
)
from merge_rules.canonical import MAX_INTEGER
from merge_rules.documents import GAME_STATS, LESSON, LESSON_PROGRESS, SETTINGS, USER_STATS
from merge_rules.verification.examples import NUMBERS

FOR_MUTANTS = os.environ.get("MERGE_RULES_BUDGET") == "mutation"
"""Thousands of mutants go through these tests: each meets few examples, and always the same."""


def examples(count: int, name: str = "") -> settings:
    """Settings for a property; a slow machine is not a failure.

    `name` is the rule's: the shipped documents are records like the others, whose parts have
    been through the laws, so a third of the examples is enough to find a slip in wiring.
    """
    count = count // 3 if name in SHIPPED else count
    allowed = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    if FOR_MUTANTS:
        return settings(
            max_examples=max(count // 4, 5),
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=allowed,
        )
    return settings(max_examples=count, deadline=None, suppress_health_check=allowed)


# Plain JSON -------------------------------------------------------------------------------

text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6
) | st.sampled_from(["-0.0", '":', '"', "\\u0000", "\\", "{[", "\uffff", "\U00010000"])
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0 if x else 0.0)
scalars = st.none() | st.booleans() | integers | floats | text


def json_values(max_leaves: int = 12) -> SearchStrategy[Any]:
    """Any value that a document may hold."""
    return st.recursive(
        scalars,
        lambda inside: st.lists(inside, max_size=4) | st.dictionaries(text, inside, max_size=4),
        max_leaves=max_leaves,
    )


# Rules ------------------------------------------------------------------------------------


def _pool() -> dict[str, list[State]]:
    """Small sets of states in which every pair collides, for exhaustive laws."""
    tied = [(1, 0, "a"), (1, 0, "b"), (1, 1, "a")]
    lww: list[State] = [None, *((t,) for t in tied)]
    lww += [(t, v) for t in tied for v in (True, 1, 1.0, None, [1])]
    values = [v for v in lww if v is not None and len(v) == 2][:4]
    removable = [(length, value) for length in (1, 3) for value in values] + [(2, None), (4, None)]
    return {
        "last_write_wins": lww,
        "maximum": [None, *NUMBERS, MAX_INTEGER, float(MAX_INTEGER)],
        "minimum": [None, *NUMBERS, -MAX_INTEGER, -float(MAX_INTEGER)],
        "flag": [False, True],
        "best": [None, *({"n": n, "x": x} for n in (1, 1.0, 2) for x in (1, True, "z"))],
        "counter": [
            {},
            *({"a": (q, n)} for q in (1, 2) for n in (-1, 0, 1)),
            *({"b": (q, n)} for q in (1, 2) for n in (0, 1)),
            {"a": (1, 1), "b": (1, 1)},
            {"a": (2, -1), "": (1, 5)},
        ],
        "union": [[], [True], [1], [1.0], [1, 1.0], [1, 1.0, True]],
        "causal_set": [{}, *({"1": n} for n in (1, 2, 3)), {"true": 1, "1": 2}, {"true": 2}],
        "removable_map_of_last_write_wins": [{}, *({"k": entry} for entry in removable)],
    }


POOLS = _pool()

EVERYTHING = record(
    {
        "top": maximum,
        "low": minimum,
        "done": flag,
        "star": best("n"),
        "count": counter,
        "items": union,
        "tags": causal_set,
        "levels": map_of(maximum),
        "themes": map_of(last_write_wins, removable=True),
        "inner": record({"hits": counter}, default=maximum),
    }
)

LEAVES: dict[str, Rule] = {
    "last_write_wins": last_write_wins,
    "maximum": maximum,
    "minimum": minimum,
    "flag": flag,
    "best": best("n"),
    "counter": counter,
    "union": union,
    "causal_set": causal_set,
}

COMPOSED: dict[str, Rule] = {
    "map_of_last_write_wins": map_of(last_write_wins),
    "map_of_maximum": map_of(maximum),
    "map_of_counter": map_of(counter),
    "map_of_map_of_flag": map_of(map_of(flag)),
    "removable_map_of_last_write_wins": map_of(last_write_wins, removable=True),
    "removable_map_of_counter": map_of(counter, removable=True),
    "removable_map_of_record": map_of(
        record({"count": counter, "top": maximum, "tags": causal_set}), removable=True
    ),
    "removable_map_of_removable_map": map_of(
        map_of(last_write_wins, removable=True), removable=True
    ),
    "record_of_everything": EVERYTHING,
    "record_of_flags": record({}, default=flag),
}

SHIPPED: dict[str, Rule] = {
    "game_stats": GAME_STATS,
    "lesson_progress": LESSON_PROGRESS,
    "settings": SETTINGS,
    "user_stats": USER_STATS,
    "lesson": LESSON,
}

RULES: dict[str, Rule] = {**LEAVES, **COMPOSED, **SHIPPED}
