"""Values and stamps from tiny pools, so that they collide: what rules are tried with."""

from collections.abc import Callable
from itertools import chain
from typing import Any

from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union
from merge_rules.counter import Counter
from merge_rules.derived import Days, Samples
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.refusal import Refusal
from merge_rules.rule import Rule
from merge_rules.scalar import Best, Flag, Maximum
from merge_rules.stamp import Stamp

DEVICES = ("a", "b", "c")
KEYS = ("k", "l")
STAMPS: tuple[Stamp, ...] = tuple(
    (wall, count, device) for wall in range(4) for count in range(2) for device in DEVICES
)

# Pairs that == or a hash confuses, and one of each JSON type.
VALUES: tuple[Any, ...] = (
    *(None, False, True, 0, 1, 1.0, "", "a", "b", [], [1], [True], {}, {"k": 1.0}),
)
NUMBERS: tuple[Any, ...] = (-1, 0, 0.0, 1, 1.0, 1.5, 2)
INTEGERS: tuple[int, ...] = (-2, -1, 0, 1, 2, 3)
ITEMS: tuple[Any, ...] = (True, 1, 1.0, "1", None, [1])
DAYS: tuple[str, ...] = ("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-03")


def example_values(rule: Rule) -> list[Any]:
    """Values that the rule merges, few enough to try them all; the simplest first."""
    own = [*rule.example_values()]
    if own:
        return own
    match rule:
        case Resettable():
            return example_values(rule.rule)
        case Maximum() | Samples():
            pool: list[Any] = [*NUMBERS]
        case Flag():
            pool = [False, True]
        case Best():
            pool = [{rule.by: number} for number in NUMBERS] + [{rule.by: 1, "x": True}]
        case Counter():
            pool = [*INTEGERS]
        case Days():
            pool = [*DAYS, [], [*DAYS[:2]], {"last": DAYS[0]}]
        case Union() | CausalSet():
            pool = [[], [True, 1], *([item] for item in ITEMS)]
        case Record() | MapOf() | RemovableMapOf():
            pool = [{}, *chain.from_iterable(_single_keys(rule))]
        case _:
            pool = [*VALUES]
    return [value for value in pool if takes(rule.check, value)]


def _single_keys(rule: Rule) -> list[list[Any]]:
    return [
        [{name: value} for value in example_values(child_of(rule, name))[:3]]
        for name in names_of(rule)
    ]


def takes(check: Callable[[Any], None], value: Any) -> bool:
    try:
        check(value)
    except Refusal:
        return False
    return True


def names_of(rule: Rule) -> list[str]:
    """Keys worth trying below a rule: declared fields, and two that are not."""
    if isinstance(rule, Resettable):
        return names_of(rule.rule)
    return [*rule.fields, *KEYS] if isinstance(rule, Record) else list(KEYS)


def child_of(rule: Rule, token: str) -> Rule:
    child = rule.child(token)
    assert child is not None
    return child
