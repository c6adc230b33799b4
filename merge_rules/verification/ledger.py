"""What the users of a document meant, place by place, and whether it holds that.

Laws would let a join pass that loses an increment. So beside the server runs a ledger of
intentions: who changed which place to what, having seen which other changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from merge_rules.collection import CausalSet, MapOf, RemovableMapOf, Union
from merge_rules.counter import Counter
from merge_rules.derived import Days
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.refusal import Path, pointer
from merge_rules.register import LastWriteWins
from merge_rules.rule import ABSENT, Rule
from merge_rules.scalar import Best, Flag, Maximum, Minimum
from merge_rules.verification.exact import exact, one_of_exactly, same
from merge_rules.verification.promises import as_set
from merge_rules.verification.story import shown

Exact = Maximum | Best | Flag | Counter | Union | Days
"""Rules whose value follows from all writes, whatever the order."""


@dataclass
class Edit:
    """One change of a place that a single edit decides, and every edit its author had seen."""

    value: Any
    past: frozenset[int]


@dataclass
class Ledger:
    """Every intention so far. An edit's number is its place in `edits`."""

    rule: Rule
    edits: list[Edit] = field(default_factory=list)
    at: dict[Path, list[int]] = field(default_factory=dict)
    sums: dict[Path, int] = field(default_factory=dict)
    written: dict[Path, list[Any]] = field(default_factory=dict)

    def take_in(self, before: Any, after: Any, known: frozenset[int]) -> frozenset[int]:
        """A device that knows some edits changes its copy; the edits it knows from then on."""
        old, new = _Places(self.rule, before), _Places(self.rule, after)
        for path, rule, item in new.whole:
            self.written.setdefault(path, []).append(item)
            if isinstance(rule, Counter):
                change = item - next((held for at, _, held in old.whole if at == path), 0)
                self.sums[path] = self.sums.get(path, 0) + change
        for path in {**old.single, **new.single}:
            value = new.single.get(path, ABSENT)
            if not same(old.single.get(path, ABSENT), value):
                self.edits.append(Edit(value, known))
                self.at.setdefault(path, []).append(len(self.edits) - 1)
                known |= {len(self.edits) - 1}
        return known

    def wrongs(self, value: Any) -> Iterator[tuple[Path, str]]:
        """Each place that does not hold what it should, and what that is, in words."""
        places = _Places(self.rule, value)
        whole = {path: item for path, _, item in places.whole}
        for path, rule in self._exact_places():
            wanted = self._total(path, rule)
            held = whole.get(path, ABSENT)
            if wanted is not ABSENT and not _fits(rule, held, wanted):
                yield path, f"{_name(path)} is {shown(held)}, not {_said(rule, wanted)}"
        for path in {**places.single, **self.at}:
            held = places.single.get(path, ABSENT)
            possible = self._maximal(path)
            if not one_of_exactly(held, possible):
                either = " or ".join(map(shown, possible))
                yield path, f"{_name(path)} is {shown(held)}, where the last edits left {either}"

    def _exact_places(self) -> Iterator[tuple[Path, Rule]]:
        for path in self.written:
            rule: Rule | None = self.rule
            for token in path:
                rule = rule and rule.child(token)
            while isinstance(rule, Resettable):
                rule = rule.rule
            if rule is not None:
                yield path, rule

    def _total(self, path: Path, rule: Rule) -> Any:
        """What all writes of a place come to."""
        written = self.written[path]
        match rule:
            case Counter():
                return self.sums[path]
            case Best():
                return max(item[rule.by] for item in written)
            case Minimum():
                return min(written)
            case Maximum():
                return max(written)
            case Flag():
                return True in written
            case Union():
                return as_set(item for items in written for item in items)
            case _:
                days = {day for item in written for day in _days(item)}
                return len(days) or ABSENT

    def _maximal(self, path: Path) -> list[Any]:
        """The values of the edits of a place that no other edit of it has seen."""
        here = {number: self.edits[number] for number in self.at.get(path, [])}
        seen = frozenset().union(*(edit.past for edit in here.values()))
        return [edit.value for number, edit in here.items() if number not in seen] or [ABSENT]


class _Places:
    """A value taken apart: places whose value all writes make, and those one edit decides."""

    def __init__(self, rule: Rule, value: Any) -> None:
        self.whole: list[tuple[Path, Rule, Any]] = []
        self.single: dict[Path, Any] = {}
        if value is not ABSENT:
            self._visit(rule, value, ())

    def _visit(self, rule: Rule, value: Any, path: Path) -> None:
        match rule:
            case Resettable():
                self._visit(rule.rule, value, path)
            case Record() | MapOf():
                for key, item in value.items():
                    child = rule.child(key)
                    assert child is not None
                    self._visit(child, item, (*path, key))
            case RemovableMapOf():
                # What is below a key may go with it; only a child of one place is judged whole.
                whole = isinstance(rule.rule, LastWriteWins)
                if not isinstance(rule.rule, Days):  # an array of no days makes no key
                    for key, item in value.items():
                        self.single[(*path, key)] = item if whole else True
            case CausalSet():
                self.single |= {(*path, exact(item).decode()): True for item in value}
            case LastWriteWins():
                self.single[path] = value
            case _ if isinstance(rule, Exact):
                self.whole.append((path, rule, value))


def _fits(rule: Rule, held: Any, wanted: Any) -> bool:
    match rule:
        case Best():
            return isinstance(held, dict) and bool(held[rule.by] == wanted)
        case Days():
            return isinstance(held, dict) and bool(held["total"] == wanted)
        case Maximum():
            return bool(held == wanted)
        case _:
            return same(held, wanted)


def _said(rule: Rule, wanted: Any) -> str:
    match rule:
        case Counter():
            return f"{wanted}, the sum of all changes"
        case Best():
            return f"one with {wanted}, the greatest that was written"
        case Days():
            return f"{wanted} days in all"
        case _:
            return f"{shown(wanted)}, which all writes together make"


def _days(written: Any) -> list[str]:
    if isinstance(written, dict):
        return [written["last"]]
    return written if isinstance(written, list) else [written]


def _name(path: Path) -> str:
    return pointer(path) or "the document"
