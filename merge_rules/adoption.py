"""What becomes of stored states when the rule of a document changes.

Where both rules look inside an object, each part is adopted by itself; a part whose rule stays
keeps its state, stamps and all. Everywhere else the new rule adopts the plain value, under the
latest stamp that the old state has.
"""

from typing import Any

from merge_rules.derived import Samples
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.refusal import Path, Refusal, pointer
from merge_rules.rule import ABSENT, Rule, State
from merge_rules.stamp import Stamp


def adopt_state(old: Rule, state: State, new: Rule, at: Stamp) -> State:
    """The state of the new rule for one that the old rule made; `at` where that has no stamp.

    Raises WrongType, with the path at fault, if the new rule cannot hold the value.
    """
    if old.fingerprint == new.fingerprint:
        return state
    if isinstance(new, Resettable):
        epoch, inner = (state[0], state[1]) if isinstance(old, Resettable) else (0, state)
        return (epoch, adopt_state(_inner(old), inner, new.rule, at))
    if isinstance(old, Resettable):
        return adopt_state(old.rule, state[1], new, at)
    if isinstance(old, Samples) and isinstance(new, Samples):
        return state[-new.k :]
    value = old.value(state)
    if value is ABSENT:
        return new.bottom
    parts = old.parts(state)
    if parts is not None and _looks_inside(new):
        return new.assemble(_adopt_parts(old, parts, new, at))
    new.check(value)
    return new.adopt(value, max(old.stamps(state), default=at))


def _adopt_parts(old: Rule, parts: dict[str, State], new: Rule, at: Stamp) -> dict[str, State]:
    adopted = {}
    for key, state in parts.items():
        before, after = old.child(key), new.child(key)
        if before is None or after is None:
            continue
        try:
            adopted[key] = adopt_state(before, state, after, at)
        except Refusal as refusal:
            raise refusal.below(key) from refusal
    return adopted


def refused_changes(old: Rule, new: Rule, path: Path = ()) -> list[str]:
    """Why states of the old rule cannot become states of the new one: a sentence for each path.

    Empty where they can; a single document may still hold a value that the new rule refuses.
    """
    if old.fingerprint == new.fingerprint:
        return []
    if isinstance(old, Resettable) or isinstance(new, Resettable):
        return refused_changes(_inner(old), _inner(new), path)
    if not set(old.shows) & set(new.takes):
        return [
            f"{pointer(path) or 'the document'} was {old.describe()}, which is "
            f"{_either(old.shows)}; {new.describe()} takes {_either(new.takes)}"
        ]
    if not (_looks_inside(old) and _looks_inside(new)):
        return []
    refused: list[str] = []
    for key in sorted({*_named(old), *_named(new), "*"}):
        before, after = old.child(key), new.child(key)
        if before is not None and after is not None:
            refused += refused_changes(before, after, (*path, key))
    return refused


def _inner(rule: Rule) -> Rule:
    return rule.rule if isinstance(rule, Resettable) else rule


def _looks_inside(rule: Rule) -> bool:
    return rule.parts(rule.bottom) is not None


def _named(rule: Rule) -> dict[str, Any]:
    return rule.fields if isinstance(rule, Record) else {}


def _either(kinds: Any) -> str:
    return " or ".join(f"{'an' if kind[0] in 'ao' else 'a'} {kind}" for kind in kinds)
