"""What each rule promises to a device that writes: the value that it sees afterwards."""

from typing import Any

from merge_rules.canonical import decode, encode
from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union
from merge_rules.derived import Days, Samples
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.rule import ABSENT, Rule
from merge_rules.scalar import Best, Flag, Maximum, Minimum
from merge_rules.verification.exact import same
from merge_rules.verification.examples import child_of


def keeps_promise(rule: Rule, before: Any, written: Any, after: Any) -> bool:
    """Whether a device may see `after` which saw `before` (or ABSENT) and wrote `written`."""
    return same(after, promised(rule, before, written, after))


def promised(rule: Rule, before: Any, written: Any, after: Any) -> Any:
    """What that device must see; `after`, which it sees, stands in where values do not say."""
    if type(rule).promise is not Rule.promise:
        wanted = rule.promise(before, written)
        return after if wanted is NotImplemented else wanted
    match rule:
        case Resettable():
            return promised(rule.rule, before, written, after)
        case Samples():
            return written if before is ABSENT else after
        case Days():
            return _last_day(before, written, after)
        case Best():
            return _greatest(before, written, lambda item: item[rule.by])
        case Minimum():
            return _greatest(before, written, lambda item: -item)
        case Maximum():
            return _greatest(before, written, lambda item: item)
        case Flag():
            return before is True or written
        case Union():
            return as_set([*([] if before is ABSENT else before), *written])
        case CausalSet():
            return as_set(written)
        case Record() | MapOf() | RemovableMapOf():
            held = {} if before is ABSENT else before
            seen = after if isinstance(after, dict) else {}
            kept = {} if isinstance(rule, RemovableMapOf) else held
            inside = {
                key: promised(
                    child_of(rule, key), held.get(key, ABSENT), item, seen.get(key, ABSENT)
                )
                for key, item in written.items()
            }
            return kept | {key: item for key, item in inside.items() if item is not ABSENT}
        case _:
            return rule.promise(before, written)


def as_set(items: Any) -> list[Any]:
    """Each item once, in the order of their bytes, as sets are shown."""
    return [decode(text.encode()) for text in sorted({encode(item).decode() for item in items})]


def _last_day(before: Any, written: Any, after: Any) -> Any:
    """The rest of what days show depends on more than they show."""
    named = written["last"] if isinstance(written, dict) else written
    days = [*named] if isinstance(named, list) else [named]
    days += [] if before is ABSENT else [before["last"]]
    if not days:
        return ABSENT
    return {**(after if isinstance(after, dict) else {}), "last": max(days)}


def _greatest(before: Any, written: Any, number: Any) -> Any:
    pair = [written] if before is ABSENT else [before, written]
    return max(pair, key=lambda item: (number(item), encode(item)))
