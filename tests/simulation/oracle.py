"""What must have become of the edits, whatever the network did: one book an account."""

from dataclasses import dataclass, field
from typing import Any, Literal

from tests.simulation.happenings import EventBook
from tests.simulation.server import Json, canonical

Path = tuple[str, ...]
"""A document's key, then the fields on the way to a value."""


@dataclass(slots=True)
class Edit:
    """One thing that a person did. Its id is that of the mutation that carries it."""

    id: str
    kind: Literal["count", "reach", "item", "flag", "write"]
    path: Path
    value: Any
    seen: frozenset[str]
    """The edits that its device had seen by then: what came before it, causally."""


@dataclass
class Book:
    """Every edit made in one account, and at which version of its document it was accepted."""

    edits: dict[str, Edit] = field(default_factory=dict)
    versions: dict[str, dict[str, int]] = field(default_factory=dict)
    """By key, then by mutation, as the answers said: those of the lost ones are not known."""
    folded: dict[str, int] = field(default_factory=dict)
    """By key, the version that was folded last."""
    changed: dict[str, int] = field(default_factory=dict)
    """By key, the version at which its rule was changed."""
    events: EventBook = field(default_factory=EventBook)
    lost: set[str] = field(default_factory=set)
    """Edits that a restored database does not hold and that no device holds either."""

    def seen_at(self, key: str, version: int | None) -> frozenset[str]:
        """The mutations that a copy at this version holds, as far as answers told."""
        if version is None:
            return frozenset()
        accepted = self.versions.get(key, {})
        return frozenset(one for one, at in accepted.items() if at <= version)

    def heard(self, result: Json) -> None:
        """An answer passed by, wherever it went."""
        if result["outcome"] in ("applied", "merged", "duplicate"):
            # A duplicate was accepted at this version or before it.
            self.versions.setdefault(result["key"], {}).setdefault(result["id"], result["version"])

    def check(self, documents: dict[str, Any], accepted: frozenset[str]) -> None:
        """Raises AssertionError unless the documents hold what the edits amount to."""
        missing = self.edits.keys() - self.lost - accepted
        assert not missing, f"these edits never reached the server: {sorted(missing)}"
        by_path: dict[tuple[str, Path], list[Edit]] = {}
        for edit in self.edits.values():
            if edit.id in accepted:
                by_path.setdefault((edit.kind, edit.path), []).append(edit)
        for (kind, path), edits in by_path.items():
            held, values = _at(documents, path), [edit.value for edit in edits]
            match kind:
                case "count":
                    assert held == sum(values), f"{path} is {held}, all edits: {values}"
                case "reach":
                    assert held == max(values), f"{path} is {held}, all edits: {values}"
                case "flag":
                    assert held is True, f"{path} is {held}, and was set"
                case "item":
                    _check_items(path, held, values)
                case _:
                    _check_register(path, held, edits)


def _check_items(path: Path, held: Any, values: list[Any]) -> None:
    items = sorted(canonical(item) for item in held)
    assert items == sorted({canonical(value) for value in values}), f"{path} is {held}: {values}"


def _check_register(path: Path, held: Any, edits: list[Edit]) -> None:
    """The value of some edit that no other edit had seen: a causally maximal one."""
    superseded = frozenset().union(*(edit.seen - {edit.id} for edit in edits))
    latest = [edit for edit in edits if edit.id not in superseded]
    if canonical(held) in {canonical(edit.value) for edit in latest}:
        return
    raise AssertionError(f"{path} is {held!r}, the latest edits: {[one.value for one in latest]}")


def _at(documents: dict[str, Any], path: Path) -> Any:
    value: Any = documents
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
