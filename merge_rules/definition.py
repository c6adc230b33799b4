"""Rules from their own words: the inverse of `Rule.describe`, for states that an old rule made."""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from merge_rules.collection import causal_set, map_of, union
from merge_rules.counter import counter
from merge_rules.derived import days, samples
from merge_rules.epoch import resettable
from merge_rules.record import record
from merge_rules.register import last_write_wins, strict
from merge_rules.rule import Rule
from merge_rules.scalar import best, flag, maximum, minimum

_RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        *(maximum, minimum, flag, counter, union, causal_set, days),
        *(last_write_wins, strict),
    )
}
_MAKERS: dict[str, Callable[..., Rule]] = {
    maker.__name__: maker for maker in (best, map_of, record, resettable, samples)
}


def rule_from(definition: str, own: Mapping[str, Rule]) -> Rule | None:
    """The rule that a definition describes; None if it needs one that is not there any more.

    `own` are an app's own rules by what they describe themselves as.
    """
    if definition in own:
        return own[definition]
    try:
        made = _evaluate(ast.parse(definition, mode="eval").body, own)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    return made if isinstance(made, Rule) and made.describe() == definition else None


def _evaluate(node: ast.expr, own: Mapping[str, Rule]) -> Any:
    """A rule, or an argument of one: nothing but names, calls and constants is understood."""
    text = ast.unparse(node)
    if text in own:
        return own[text]
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name) if name in _RULES:
            return _RULES[name]
        case ast.Dict(keys, values):
            names = [_evaluate(key, own) for key in keys if key is not None]
            return dict(zip(names, (_evaluate(item, own) for item in values), strict=True))
        case ast.Call(ast.Name(name), arguments, keywords) if name in _MAKERS:
            named = {one.arg: _evaluate(one.value, own) for one in keywords if one.arg}
            return _MAKERS[name](*(_evaluate(one, own) for one in arguments), **named)
    raise ValueError(f"{text} is no rule")
