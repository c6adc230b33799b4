"""What must have become of the edits, whatever the network did."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]
"""A document's key, then the fields on the way to a value."""

COUNTERS = {
    "user_stats": ("xp", "hearts"),
    "game_stats": ("games_played", "correct_answers"),
}
MAXIMA = {
    "game_stats": ("score",),
    "user_stats": ("level",),
    "lesson_progress": ("unlocked_count",),
}


def exact(value: Any) -> str:
    """A value as text that tells 1 from True and 1.0."""
    return json.dumps(value, sort_keys=True)


@dataclass
class Oracle:
    """Every edit that any device made, each of which will have been delivered in the end."""

    sums: dict[Path, int] = field(default_factory=lambda: defaultdict(int))
    maxima: dict[Path, int] = field(default_factory=dict)
    unions: dict[Path, set[str]] = field(default_factory=lambda: defaultdict(set))
    flags: set[Path] = field(default_factory=set)
    written: dict[Path, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(dict))
    """For each value written: the values that the device had seen in that place by then."""
    seen: dict[tuple[str, Path], set[str]] = field(default_factory=lambda: defaultdict(set))

    def counted(self, path: Path, amount: int) -> None:
        self.sums[path] += amount

    def reached(self, path: Path, amount: int) -> None:
        self.maxima[path] = max(amount, self.maxima.get(path, amount))

    def saw(self, device: str, path: Path, value: Any) -> None:
        self.seen[device, path].add(exact(value))

    def wrote(self, device: str, path: Path, value: Any) -> None:
        """Values are unlike each other, so that each names its edit."""
        known = self.seen[device, path]
        self.written[path][exact(value)] = set(known)
        known.add(exact(value))

    def check(self, documents: dict[str, Any]) -> None:
        """Raises AssertionError unless the documents hold what the edits amount to."""
        for path, total in self.sums.items():
            assert self._at(documents, path) == total, f"{path} must be {total}: {documents}"
        for path, most in self.maxima.items():
            assert self._at(documents, path) == most, f"{path} must be {most}: {documents}"
        for path, items in self.unions.items():
            held = self._at(documents, path)
            assert {exact(item) for item in held} == items
            assert len(held) == len(items)
        for path in self.flags:
            assert self._at(documents, path) is True
        for path, edits in self.written.items():
            self._check_register(documents, path, edits)

    def _check_register(
        self, documents: dict[str, Any], path: Path, edits: dict[str, set[str]]
    ) -> None:
        """The value of some edit that no other edit had seen: a causally maximal one."""
        held = exact(self._at(documents, path))
        if held not in edits:
            raise AssertionError(f"{path} holds {held}, which nobody wrote")
        for value, seen in edits.items():
            if value != held and held in seen:
                raise AssertionError(f"{path} holds {held}, though {value} was written on it")

    @staticmethod
    def _at(documents: dict[str, Any], path: Path) -> Any:
        value: Any = documents
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return value
