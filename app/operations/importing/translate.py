"""From a row to what it becomes: pure, and nothing but the mapping decides."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from app.auth.types import ACCOUNT
from app.documents.model import Mutation
from app.documents.mutations import Intake
from app.documents.types import require_key
from app.errors import SynclineError
from app.operations.importing.mapping import (
    MEMBER,
    DocumentTarget,
    Expression,
    Mapping,
    Source,
    expression,
)
from app.operations.importing.rows import Empty, Reason, Rejected, Row


@dataclass(frozen=True, slots=True)
class Rejection:
    """What became nothing, and why: a code of `Reason` or of `app/errors.py`."""

    target: str
    code: str
    detail: str


@dataclass(slots=True)
class Translated:
    """What a row becomes; each item stands alone, so that a bad one takes no other with it."""

    account: str = ""
    mutations: list[tuple[str, Mutation]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    skipped: bool = False
    """Whether the mapping passes over such rows."""


ROW = "row"
"""The target of a rejection that concerns all of a row."""


def translate(row: Row, mapping: Mapping, source: str, intake: Intake, now_ms: int) -> Translated:
    """What a row becomes; it never raises."""
    done = Translated()
    if not all(row.is_empty(column) for column in mapping.only_if_empty):
        done.skipped = True
        return done
    try:
        done.account = _account(row, mapping.account)
        dated_ms = _dated(row, mapping.time, now_ms)
    except Rejected as rejected:
        done.rejections.append(Rejection(ROW, rejected.reason, rejected.detail))
        return done
    for document in mapping.documents:
        _Documents(row, document, source, intake, dated_ms, done).translate()
    return done


def _account(row: Row, template: str) -> str:
    try:
        account = row.fill(template)
    except Empty as empty:
        detail = f"Column {str(empty)!r}, which tells the account, is empty."
        raise Rejected(Reason.ACCOUNT_MISSING, detail) from empty
    if not ACCOUNT.fullmatch(account) or not _is_utf8(account):
        detail = "An account is 1 to 128 characters without control characters."
        raise Rejected(Reason.INVALID_ACCOUNT, detail)
    return account


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dated(row: Row, time: Source | None, now_ms: int) -> int:
    """When the row was written; 0 where it does not say, or says what cannot be.

    A time to come would let the row win over edits that are made before it.
    """
    if time is None:
        return 0
    given = expression(time)
    if given.reading == "value":
        given = msgspec.structs.replace(given, reading="timestamp")
    dated_ms = row.read(given)
    return 0 if dated_ms is UNSET or not 0 <= dated_ms <= now_ms else int(dated_ms)


@dataclass(slots=True)
class _Documents:
    """The documents that one target makes of a row."""

    row: Row
    target: DocumentTarget
    source: str
    intake: Intake
    dated_ms: int
    done: Translated

    def translate(self) -> None:
        name = f"document {self.target.key}"
        try:
            for key, value in self._documents():
                self._add(name, key, value)
        except Rejected as rejected:
            self.done.rejections.append(Rejection(name, rejected.reason, rejected.detail))
        except Empty as empty:
            detail = f"Column {str(empty)!r}, which the key is made of, is empty."
            self.done.rejections.append(Rejection(name, Reason.COLUMN_EMPTY, detail))

    def _documents(self) -> Iterator[tuple[str, Any]]:
        target = self.target
        if target.each is not None:
            yield from self._members(expression(target.each))
            return
        value = self._fields() if target.fields else self._whole(target.value)
        if value is not UNSET:
            yield self.row.fill(target.key), value

    def _members(self, each: Expression) -> Iterator[tuple[str, Any]]:
        members = self.row.read(each)
        if members is UNSET:
            return
        if not isinstance(members, dict):
            raise Rejected(Reason.UNREADABLE, f"{_named(each)}: it takes an object.")
        for member, value in members.items():
            if value is not None:
                columns = {**self.row.columns, MEMBER: member}
                yield Row(self.row.position, columns, b"").fill(self.target.key), value

    def _whole(self, value: Source | None) -> Any:
        assert value is not None
        return self.row.read(expression(value))

    def _fields(self) -> Any:
        """An object of the fields that are not empty; UNSET where no column holds anything."""
        values = {}
        holds = False
        for name, source in self.target.fields.items():
            given = expression(source)
            value = self.row.read(given)
            if value is not UNSET:
                values[name] = value
                column = given.column
                holds = holds or (column is not None and not self.row.is_empty(column))
        return values if holds else UNSET

    def _add(self, name: str, key: str, value: Any) -> None:
        try:
            mutation = self.intake.imported(
                require_key(key), value, self.source, self.done.account, self.dated_ms
            )
        except SynclineError as error:
            self.done.rejections.append(Rejection(name, error.code, f"{key}: {error.detail}"))
        else:
            self.done.mutations.append((name, mutation))


def _named(source: Expression) -> str:
    return f"Column {source.column!r}" if source.column is not None else "The value"
