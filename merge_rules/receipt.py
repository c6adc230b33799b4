"""Why a merge came out so: for each path that somebody changed, who changed what and who won."""

from collections.abc import Iterator
from typing import Any

from merge_rules.canonical import same
from merge_rules.refusal import Path, pointer
from merge_rules.rule import ABSENT, Rule

Receipt = list[dict[str, Any]]
"""One entry a path: path, rule, decided, and base, yours, current, result where there is one.

`decided`: `yours` (the result is the device's value), `current` (it is the server's), `both`
(the result is neither alone, or both agree).
"""


def explain(rule: Rule, base: Any, yours: Any, current: Any, result: Any) -> Receipt:
    """The receipt of a merge from its four plain values; ABSENT where there was none.

    `yours` is the value of the state that the device proposed, not the body that it sent, in
    which a field left out is unchanged rather than taken away.
    """
    return [
        _entry(path, leaf, values)
        for path, leaf, values in _leaves(rule, (), (base, yours, current, result))
        if not (_same(values[0], values[1]) and _same(values[0], values[2]))
        or not _same(values[2], values[3])
    ]


def _entry(path: Path, rule: Rule, values: tuple[Any, Any, Any, Any]) -> dict[str, Any]:
    named = zip(("base", "yours", "current", "result"), values, strict=True)
    _, yours, current, result = values
    is_yours, is_current = _same(result, yours), _same(result, current)
    decided = "both" if is_yours == is_current else "yours" if is_yours else "current"
    return {
        "path": pointer(path),
        "rule": rule.describe(),
        "decided": decided,
        **{name: value for name, value in named if value is not ABSENT},
    }


def _leaves(
    rule: Rule, path: Path, values: tuple[Any, Any, Any, Any]
) -> Iterator[tuple[Path, Rule, tuple[Any, Any, Any, Any]]]:
    tokens = {token: None for value in values if isinstance(value, dict) for token in value}
    looks_inside = any(rule.child(token) is not None for token in tokens)
    if not looks_inside or not all(isinstance(value, dict) or value is ABSENT for value in values):
        yield path, rule, values
        return
    for token in sorted(tokens):
        below = rule.child(token)
        if below is not None:
            base, yours, current, result = (
                ABSENT if value is ABSENT else value.get(token, ABSENT) for value in values
            )
            yield from _leaves(below, (*path, token), (base, yours, current, result))


def _same(a: Any, b: Any) -> bool:
    if a is ABSENT or b is ABSENT:
        return a is b
    return a is b or same(a, b)
