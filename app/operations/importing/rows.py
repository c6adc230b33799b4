"""A row of an old table, whatever it was read from, and what its columns can be read as."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from app.operations.importing.mapping import Expression, Reading
from app.operations.importing.template import Ambiguous, Template
from merge_rules.canonical import MAX_INTEGER, parse, same
from merge_rules.plain import is_number
from merge_rules.refusal import NotJson, Refusal

Cell = Raw | str
"""JSON text, as tables and JSON lines have it; or mere text, as CSV has it."""

SECONDS_BELOW = 100_000_000_000
"""A number below this is a time in seconds (until the year 5138), from here on in milliseconds
(since 1973)."""
_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_DAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})([T ].*)?", re.DOTALL)
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reason(StrEnum):
    """Why a row, or one of the things that it becomes, was rejected by the import itself.

    Whatever the write path refuses has its code of `app/errors.py`.
    """

    MALFORMED_ROW = "malformed-row"
    ROW_TOO_LARGE = "row-too-large"
    INVALID_UTF8 = "invalid-utf8"
    ACCOUNT_MISSING = "account-missing"
    INVALID_ACCOUNT = "invalid-account"
    COLUMN_EMPTY = "column-empty"
    UNREADABLE = "unreadable"
    INVALID_TIME = "invalid-time"
    AMBIGUOUS = "ambiguous"


class Rejected(Exception):
    """A row, or a part of it, that cannot be imported."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Empty(Exception):
    """A column of a template holds nothing."""


@dataclass(slots=True)
class Row:
    """One row: where it stands in its source, and its columns.

    A column that is not there, null, or no text at all in CSV, is empty.
    """

    position: str
    columns: Mapping[str, Cell]

    def is_empty(self, column: str) -> bool:
        cell = self.columns.get(column)
        return cell is None or (not cell if isinstance(cell, str) else bytes(cell) == b"null")

    def raw(self, column: str) -> bytes:
        """The column as JSON text."""
        cell = self.columns[column]
        return msgspec.json.encode(cell) if isinstance(cell, str) else bytes(cell)

    def plain(self, column: str) -> Any:
        """The column as a value; CSV has texts only."""
        cell = self.columns[column]
        if isinstance(cell, str):
            return cell
        try:
            return msgspec.json.decode(cell)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise _unreadable(column, f"it is not JSON: {error}") from error

    def fill(self, template: str) -> str:
        """The text of a template; raises Empty naming a column, or Rejected."""
        parsed = Template.parse(template)
        try:
            return parsed.fill({column: self._text(column) for column in parsed.columns})
        except Ambiguous as error:
            raise Rejected(Reason.AMBIGUOUS, f"{error}.") from error

    def _text(self, column: str) -> str:
        text = "" if self.is_empty(column) else self.text_of(column)
        if not text:
            raise Empty(column)
        return text

    def text_of(self, column: str) -> str:
        """A text as it is, a whole number by its digits however long."""
        cell = self.columns[column]
        if isinstance(cell, Raw) and _INTEGER.fullmatch(digits := bytes(cell).decode().strip()):
            return digits
        value = self.plain(column)
        if not isinstance(value, str):
            raise _unreadable(column, "it takes a text or a whole number")
        return value

    def read(self, source: Expression) -> Any:
        """The value of an expression; UNSET where there is none. Raises Rejected."""
        if source.constant is not UNSET:
            return source.constant
        if source.template is not None:
            try:
                return self.fill(source.template)
            except Empty:
                return source.default
        column = source.column
        assert column is not None
        if self.is_empty(column):
            return source.default
        value = _READERS[source.reading](self, column)
        return source.default if any(_equal(value, one) for one in source.nothing) else value


def _equal(a: Any, b: Any) -> bool:
    return same(a, b) or (is_number(a) and is_number(b) and a == b)


def _unreadable(column: str, why: str) -> Rejected:
    return Rejected(Reason.UNREADABLE, f"Column {column!r}: {why}.")


def _parsed(column: str, data: bytes) -> Any:
    try:
        return parse(data)[0]
    except Refusal as refusal:
        reason = "it is not JSON" if isinstance(refusal, NotJson) else str(refusal)
        raise _unreadable(column, reason) from refusal


def _value(row: Row, column: str) -> Any:
    return _parsed(column, row.raw(column))


def _json(row: Row, column: str) -> Any:
    """JSON as it is; a text holds JSON."""
    value = row.plain(column)
    if not isinstance(value, str):
        return _value(row, column)
    return _parsed(column, value.encode(errors="replace"))


def _text(row: Row, column: str) -> Any:
    return row.text_of(column)


def _number_or_other(row: Row, column: str) -> Any:
    """The column as a value; a text of digits as the number that it shows."""
    value = row.plain(column)
    text = value.strip() if isinstance(value, str) else ""
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else value


def _integer(row: Row, column: str) -> Any:
    value = _number_or_other(row, column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unreadable(column, "it takes a whole number")
    if abs(value) > MAX_INTEGER:
        raise _unreadable(column, f"integers are within ±{MAX_INTEGER}")
    return value


def _number(row: Row, column: str) -> Any:
    value = row.plain(column)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return _parsed(column, value.strip().encode())
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _unreadable(column, "it takes a number")
    return _value(row, column)


def _boolean(row: Row, column: str) -> Any:
    value = row.plain(column)
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(str(value).strip().lower()) if isinstance(value, (str, int)) else None
    if known is None:
        raise _unreadable(column, "it takes true or false, t or f, 1 or 0")
    return known


def _timestamp(row: Row, column: str) -> Any:
    """ISO 8601 (UTC where it names no zone), or a number since 1970 by its size."""
    number = _epoch(row, column)
    if number is None:
        return _iso(row, column)
    return _ms(column, number * 1000 if abs(number) < SECONDS_BELOW else number)


def _seconds(row: Row, column: str) -> Any:
    return _ms(column, _require_epoch(row, column) * 1000)


def _milliseconds(row: Row, column: str) -> Any:
    return _ms(column, _require_epoch(row, column))


def _require_epoch(row: Row, column: str) -> float:
    number = _epoch(row, column)
    if number is None:
        raise _bad_time(column)
    return number


def _epoch(row: Row, column: str) -> float | None:
    value = _number_or_other(row, column)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return None


def _iso(row: Row, column: str) -> int:
    value = row.plain(column)
    if not isinstance(value, str):
        raise _bad_time(column)
    try:
        moment = datetime.fromisoformat(value.strip())
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        since = moment - _EPOCH
    except (ValueError, OverflowError) as error:
        raise _bad_time(column) from error
    return _ms(column, (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000)


def _ms(column: str, number: float) -> int:
    if not abs(number) <= MAX_INTEGER:
        raise _bad_time(column)
    return int(number)


def _bad_time(column: str) -> Rejected:
    return Rejected(
        Reason.INVALID_TIME,
        f"Column {column!r}: it takes ISO 8601, or seconds or milliseconds since 1970.",
    )


def _day(row: Row, column: str) -> Any:
    """The day as it is written, whatever the zone behind it: a user's day is not UTC's."""
    value = row.plain(column)
    found = _DAY.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is not None:
        try:
            return datetime.fromisoformat(found[1]).date().isoformat()
        except ValueError as error:
            raise _bad_time(column) from error
    moment_ms = _timestamp(row, column)
    try:
        return datetime.fromtimestamp(moment_ms / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise _bad_time(column) from error


_READERS: dict[Reading, Callable[[Row, str], Any]] = {
    "value": _value,
    "json": _json,
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "seconds": _seconds,
    "milliseconds": _milliseconds,
    "day": _day,
}
