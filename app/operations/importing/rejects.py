"""The report of what was rejected: JSON lines, for the operator to mend and import again."""

import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Raw

from app.operations.importing.rows import Row
from app.operations.importing.source import Unreadable
from app.operations.importing.translate import Rejection


class RejectedRow(msgspec.Struct):
    """One line: where the row stands, what of it was rejected and why, and the row."""

    source: str
    position: str
    rejected: Sequence[Rejection]
    row: dict[str, Raw | str] | str
    """The columns that the mapping reads; of what is no row, the beginning of its text."""


class Rejects:
    """The file. It is made with the first line; rows are personal, so only its owner reads it."""

    def __init__(self, path: Path, source: str, columns: Set[str]) -> None:
        """`columns` are those that are told; others may hold what is nobody's business."""
        self._path = path
        self._source = source
        self._columns = columns
        self._file: BinaryIO | None = None
        self.written = 0

    def go_on(self, at: int) -> bool:
        """Drops what was written after the position from which the import goes on.

        Whether all from before is still there.
        """
        size = self._path.stat().st_size if self._path.exists() else 0
        self.written = min(at, size)
        if size > self.written:
            os.truncate(self._path, self.written)
        return size >= at

    def write(self, row: Row | Unreadable, rejections: Sequence[Rejection]) -> None:
        text: dict[str, Raw | str] | str
        if isinstance(row, Row):
            text = {name: cell for name, cell in row.columns.items() if name in self._columns}
        else:
            text = row.excerpt.decode(errors="replace")
        line = RejectedRow(self._source, row.position, rejections, text)
        self._write(msgspec.json.encode(line) + b"\n")

    def _write(self, line: bytes) -> None:
        if self._file is None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab")
        self.written += self._file.write(line)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
