"""What an import has come to so far, and where it goes on."""

from collections.abc import Iterable, Mapping

import msgspec

MOST_COLUMNS = 500
"""Columns that are counted by name."""
OTHERS = "(others)"
Counts = dict[str, dict[str, int]]


class Tally(msgspec.Struct):
    """Kept with the position in the source, so that a resumed import tells of all of it."""

    rows: int = 0
    passed_over: int = 0
    outcomes: Counts = {}
    """By target, then by outcome."""
    rejected: Counts = {}
    """By target, then by reason."""
    left_out: dict[str, int] = {}
    """By column, rows in which it held something."""

    def add(self, other: "Tally") -> None:
        self.rows += other.rows
        self.passed_over += other.passed_over
        _add_all(self.outcomes, other.outcomes)
        _add_all(self.rejected, other.rejected)
        for column, count in other.left_out.items():
            self._leave_out(column, count)

    def count(self, target: str, outcome: str) -> None:
        _add(self.outcomes, target, outcome, 1)

    def reject(self, target: str, reason: str) -> None:
        _add(self.rejected, target, reason, 1)

    def leave_out(self, columns: Iterable[str]) -> None:
        for column in columns:
            self._leave_out(column, 1)

    def _leave_out(self, column: str, count: int) -> None:
        """Rows of JSON may each have columns of their own, of which no one keeps a list."""
        if column not in self.left_out and len(self.left_out) >= MOST_COLUMNS:
            column = OTHERS
        self.left_out[column] = self.left_out.get(column, 0) + count

    @property
    def rejections(self) -> int:
        return sum(sum(reasons.values()) for reasons in self.rejected.values())


class Progress(msgspec.Struct):
    """The row of an import in the table `imports`, as JSON."""

    identity: str
    """Of the source and the mapping: where it differs, the end means nothing any more."""
    end: str | None = None
    size: int = 0
    rejects_bytes: int = 0
    """How long the file of rejected rows was then."""
    finished: bool = False
    tally: Tally = msgspec.field(default_factory=Tally)


def _add(counts: Counts, target: str, name: str, number: int) -> None:
    of_target = counts.setdefault(target, {})
    of_target[name] = of_target.get(name, 0) + number


def _add_all(counts: Counts, others: Mapping[str, Mapping[str, int]]) -> None:
    for target, names in others.items():
        for name, number in names.items():
            _add(counts, target, name, number)
