"""What rows are read from, a chunk at a time, so that any number of them fits into memory."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.operations.importing.rows import Reason, Row

CHUNK_ROWS = 500
CHUNK_BYTES = 4 * 1024 * 1024
"""Rows and bytes of a chunk, about; a single row may be larger."""
EXCERPT_BYTES = 2_000
"""How much of a row that cannot be read is kept in the report."""


class SourceError(Exception):
    """The source cannot be read; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of which nothing can be read."""

    position: str
    reason: Reason
    detail: str
    excerpt: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows in their order, and the place in the source where they end."""

    rows: Sequence[Row | Unreadable]
    end: str
    """From where reading goes on after them; the source's own words."""
    size: int
    """In the unit of the source's `total`."""


class Source(Protocol):
    """Rows of one table or file."""

    name: str
    """What the operator knows it by; without a password."""
    unit: str
    """What `total` counts."""
    identity: str
    """Changes where what is there now is not what was read from before."""
    columns: Sequence[str] | None
    """What it has, once it is open; None where each row has its own."""

    async def open(self, used: Sequence[str]) -> None:
        """Raises SourceError where it cannot be read, or lacks a column that is used."""

    async def total(self) -> int: ...

    def chunks(self, after: str | None) -> AsyncIterator[Chunk]:
        """The rows behind an end; from the beginning without one. Raises SourceError."""

    async def close(self) -> None: ...
