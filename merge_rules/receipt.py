"""Why a merge came out so: for each path that somebody changed, who changed what and who won."""

from typing import Any

from merge_rules.canonical import same
from merge_rules.refusal import Path, pointer
from merge_rules.rule import ABSENT, Rule

_Values = tuple[Any, ...]
"""Base, yours, current and result."""

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
    receipt: Receipt = []
    _collect(receipt, rule, (), (base, yours, current, result))
    return receipt


def _collect(receipt: Receipt, rule: Rule, path: Path, values: _Values) -> None:
    """Adds an entry for each path that somebody changed, at the path or below it."""
    tokens = _tokens(rule, values)
    if tokens is None:
        base, yours, current, result = values
        if not (_same(base, yours) and _same(base, current) and _same(current, result)):
            receipt.append(_entry(path, rule, values))
        return
    for token in sorted(tokens):
        below = rule.child(token)
        if below is not None:
            inside = tuple(ABSENT if one is ABSENT else one.get(token, ABSENT) for one in values)
            _collect(receipt, below, (*path, token), inside)


def _tokens(rule: Rule, values: _Values) -> set[str] | None:
    """The keys of the values; None where the rule, or one of them, has nothing inside."""
    tokens: set[str] = set()
    for value in values:
        if isinstance(value, dict):
            tokens.update(value)
        elif value is not ABSENT:
            return None
    return tokens if any(rule.child(token) is not None for token in tokens) else None


def _entry(path: Path, rule: Rule, values: _Values) -> dict[str, Any]:
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


def _same(a: Any, b: Any) -> bool:
    if a is ABSENT or b is ABSENT:
        return a is b
    return a is b or same(a, b)
