"""Checks merge rules with generated examples; needs Hypothesis (`syncline[testing]`).

>>> from merge_rules import counter, map_of
>>> from merge_rules.testing import check_laws
>>> bool(check_laws(map_of(counter), examples=20))
True
"""

from merge_rules.testing.checking import DEFAULT_EXAMPLES, Holds, Result, check_laws
from merge_rules.testing.generators import (
    operations_of,
    stamps,
    states_of,
    values_of,
    written_states_of,
)
from merge_rules.testing.histories import History, histories, reachable_states, worlds
from merge_rules.verification.exact import exact, one_of_exactly, same, unchanged_by
from merge_rules.verification.server import Server
from merge_rules.verification.story import Counterexample
from merge_rules.verification.world import World

__all__ = [
    "DEFAULT_EXAMPLES",
    "Counterexample",
    "History",
    "Holds",
    "Result",
    "Server",
    "World",
    "check_laws",
    "exact",
    "histories",
    "one_of_exactly",
    "operations_of",
    "reachable_states",
    "same",
    "stamps",
    "states_of",
    "unchanged_by",
    "values_of",
    "worlds",
    "written_states_of",
]
