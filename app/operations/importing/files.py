"""Rows of CSV (RFC 4180) and of JSON lines, read line by line."""

import csv
from collections.abc import AsyncIterator, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec

from app.operations.importing.json_rows import json_row
from app.operations.importing.rows import Reason, Row
from app.operations.importing.source import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    EXCERPT_BYTES,
    Chunk,
    SourceError,
    Unreadable,
)

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PIECE = 64 * 1024
HEAD_BYTES = 64 * 1024
SUFFIXES = {".csv", ".jsonl", ".ndjson"}

Read = Row | Unreadable


class _End(msgspec.Struct):
    """Where reading goes on: a byte of the file, and how many rows stand before it."""

    byte: int
    row: int


class FileSource:
    """A file of rows. It must be one that can be read again, so no pipe."""

    unit = "bytes"

    def __init__(self, path: Path, max_row_bytes: int) -> None:
        self._path = path
        self._max = max_row_bytes
        self.name = str(path)
        self.columns: Sequence[str] | None = None
        self.identity = ""
        self._size = 0

    async def open(self, used: Sequence[str]) -> None:
        try:
            if not self._path.is_file():
                raise SourceError(f"{self.name} is not a file")
            with self._path.open("rb") as file:
                head = file.read(HEAD_BYTES)
                self._size = self._path.stat().st_size
                if self._path.suffix == ".csv":
                    self.columns = _header(file, self._max)
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror or error}") from error
        self.identity = f"{blake2b(head, digest_size=8).hexdigest()}:{self._size}"
        missing = sorted(set(used) - set(self.columns or used))
        if missing:
            raise SourceError(f"{self.name} has no column {', '.join(missing)}")

    async def total(self) -> int:
        return self._size

    async def chunks(self, after: str | None) -> AsyncIterator[Chunk]:
        end = _End(0, 0) if after is None else msgspec.json.decode(after, type=_End)
        try:
            with self._path.open("rb") as file:
                for chunk in self._chunks(file, end):
                    yield chunk
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror or error}") from error

    def _chunks(self, file: BinaryIO, end: _End) -> Iterator[Chunk]:
        if self.columns is None:
            file.seek(end.byte or _mark(file))
            rows = _json_rows(file, end.row, self._max)
        else:
            _header(file, self._max)
            file.seek(end.byte or file.tell())
            rows = _csv_rows(file, end.row, self._max, self.columns)
        chunk: list[Read] = []
        began = end.byte
        for row in rows:
            chunk.append(row)
            if len(chunk) >= CHUNK_ROWS or file.tell() - began >= CHUNK_BYTES:
                end = _End(file.tell(), end.row + len(chunk))
                yield Chunk(chunk, _text(end), end.byte - began)
                chunk, began = [], end.byte
        if chunk:
            end = _End(file.tell(), end.row + len(chunk))
            yield Chunk(chunk, _text(end), end.byte - began)

    async def close(self) -> None:
        pass


def _text(end: _End) -> str:
    return msgspec.json.encode(end).decode()


def _mark(file: BinaryIO) -> int:
    file.seek(0)
    return len(BYTE_ORDER_MARK) if file.read(3) == BYTE_ORDER_MARK else 0


def _position(number: int) -> str:
    return f"row {number}"


# JSON lines ----------------------------------------------------------------------------------


def _json_rows(file: BinaryIO, number: int, limit: int) -> Iterator[Read]:
    """One row a line; lines without anything are none."""
    while line := file.readline(limit + 1):
        if not line.strip():
            continue
        number += 1
        if len(line) > limit and not line.endswith(b"\n"):
            _skip_line(file, file.tell())
            yield _too_large(number, line, limit)
        else:
            yield json_row(_position(number), line.strip())


def _too_large(number: int, start: bytes, limit: int) -> Unreadable:
    detail = f"A row may have {limit} bytes."
    return Unreadable(_position(number), Reason.ROW_TOO_LARGE, detail, start[:EXCERPT_BYTES])


# CSV -----------------------------------------------------------------------------------------


class _TooLong(Exception):
    """A record has more bytes than a row may have."""


class _Lines:
    """The lines of a file as the CSV reader takes them, as long as the record is not too long."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self.taken: list[bytes] = []
        """The lines of the present record."""
        self._bytes = 0

    def begin(self) -> int:
        """Begins a record; the byte at which it stands."""
        self.taken, self._bytes = [], 0
        return self._file.tell()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(self._limit + 1)
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._bytes += len(line)
        if self._bytes > self._limit:
            raise _TooLong
        # What is not UTF-8 is told of where its row is known.
        return line.decode(errors="surrogateescape")


def _header(file: BinaryIO, limit: int) -> list[str]:
    """The names of the columns; the file stands behind them."""
    file.seek(_mark(file))
    lines = _Lines(file, limit)
    csv.field_size_limit(limit + 1)
    try:
        names = next(csv.reader(lines, strict=True))
    except (StopIteration, csv.Error, _TooLong) as error:
        raise SourceError("the first line of a CSV file has to name the columns") from error
    if len(set(names)) < len(names) or "" in names:
        raise SourceError("the first line of a CSV file has to name each column, and no two alike")
    return names


def _csv_rows(file: BinaryIO, number: int, limit: int, columns: Sequence[str]) -> Iterator[Read]:
    """One row a record; one that is no CSV costs its first line, and no more of the file."""
    lines = _Lines(file, limit)
    reader = csv.reader(lines, strict=True)
    csv.field_size_limit(limit + 1)
    while True:
        began = lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _TooLong:
            number += 1
            if not _skip_record(file, began):
                _skip_line(file, began)
            yield _too_large(number, b"".join(lines.taken), limit)
            continue
        except csv.Error as error:
            number += 1
            _skip_line(file, began)
            yield _malformed(number, lines.taken[0], f"It is no CSV: {error}.")
            continue
        if fields:
            number += 1
            yield _csv_row(number, columns, fields, b"".join(lines.taken))


def _csv_row(number: int, columns: Sequence[str], fields: list[str], text: bytes) -> Read:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        excerpt = text[:EXCERPT_BYTES]
        return Unreadable(_position(number), Reason.INVALID_UTF8, f"{error}.", excerpt)
    if len(fields) != len(columns):
        why = f"It has {len(fields)} fields, and the first line {len(columns)}."
        return _malformed(number, text, why)
    row = dict(zip(columns, fields, strict=True))
    return Row(_position(number), row)


def _malformed(number: int, text: bytes, why: str) -> Unreadable:
    excerpt = text.rstrip()[:EXCERPT_BYTES]
    return Unreadable(_position(number), Reason.MALFORMED_ROW, why, excerpt)


def _skip_line(file: BinaryIO, began: int) -> None:
    """Goes behind a line however long."""
    file.seek(began)
    while (piece := file.readline(PIECE)) and not piece.endswith(b"\n"):
        pass


def _skip_record(file: BinaryIO, began: int) -> bool:
    """Goes behind a record however long, as its quotes tell; whether it has an end at all."""
    file.seek(began)
    quoted = False
    while piece := file.readline(PIECE):
        quoted ^= piece.count(b'"') % 2 == 1
        if piece.endswith(b"\n") and not quoted:
            return True
    return not quoted
