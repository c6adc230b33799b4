"""Merge rules: how two versions of a JSON document become one, without losing either.

A pure package: no I/O, no clock, no randomness. Compose rules, register them by key, and join
states by hand:

    >>> from merge_rules import counter, maximum, record
    >>> stats = record({"score": maximum, "games": counter})
    >>> base = stats.advance(stats.bottom, {"score": 5, "games": 1}, (1, 0, "phone"))
    >>> phone = stats.advance(base, {"score": 9, "games": 2}, (2, 0, "phone"))
    >>> tablet = stats.advance(base, {"score": 7, "games": 3}, (3, 0, "tablet"))
    >>> stats.value(stats.join(phone, tablet))
    {'score': 9, 'games': 4}
"""

from merge_rules.collection import causal_set, map_of, union
from merge_rules.counter import counter
from merge_rules.derived import days, samples
from merge_rules.epoch import resettable
from merge_rules.record import record
from merge_rules.refusal import (
    DeviceRequired,
    NotCanonical,
    NotJson,
    OperationRefused,
    Refusal,
    WrongType,
)
from merge_rules.register import last_write_wins, strict
from merge_rules.registry import Registry, RegistryError, load_rules
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.scalar import best, flag, maximum, minimum
from merge_rules.stamp import Stamp

__all__ = [
    "ABSENT",
    "DeviceRequired",
    "NotCanonical",
    "NotJson",
    "Operation",
    "OperationRefused",
    "Refusal",
    "Registry",
    "RegistryError",
    "Rule",
    "Stamp",
    "State",
    "WrongType",
    "best",
    "causal_set",
    "counter",
    "days",
    "flag",
    "last_write_wins",
    "load_rules",
    "map_of",
    "maximum",
    "minimum",
    "record",
    "resettable",
    "samples",
    "strict",
    "union",
]
