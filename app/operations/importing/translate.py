"""From a row to what it becomes: pure, and nothing but the mapping decides."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET

from app.auth.types import ACCOUNT
from app.documents.model import Mutation
from app.documents.mutations import Intake
from app.documents.types import require_key
from app.errors import Code, SynclineError
from app.ledger.event_type import EventType
from app.ledger.intake import EventIntake, Sender
from app.ledger.model import Event
from app.ledger.openings import IMPORTED_FACTS, OPENING
from app.ledger.profile import SERVER_OWNED
from app.operations.importing.mapping import (
    MEMBER,
    DocumentTarget,
    EventTarget,
    Expression,
    Mapping,
    OpeningTarget,
    Source,
    expression,
)
from app.operations.importing.rows import Empty, Reason, Rejected, Row
from merge_rules.canonical import encode

IDS = UUID("d0a6f3b8-6a5f-5f0e-9c3e-4f1c7b1d2e55")
"""The name space of the ids of imported events whose own id is no UUID."""
OWN_ID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ROW = "row"
"""The target of a rejection that concerns all of a row."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """What of a row became nothing, and why: a code of `Reason` or of `app/errors.py`."""

    target: str
    code: str
    detail: str


@dataclass(slots=True)
class Translated:
    """What a row becomes; each item stands alone, so that a bad one takes no other with it."""

    account: str = ""
    mutations: list[tuple[str, Mutation]] = field(default_factory=list)
    events: list[tuple[str, Event]] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    skipped: bool = False
    """Whether the mapping passes over such rows."""


@dataclass(frozen=True, slots=True)
class Translator:
    """A mapping, and the limits that everything from outside meets first."""

    mapping: Mapping
    intake: Intake
    events: EventIntake

    def translate(self, row: Row, now_ms: int) -> Translated:
        """What a row becomes; it never raises."""
        done, mapping = Translated(), self.mapping
        if not all(row.is_empty(column) for column in mapping.only_if_empty):
            done.skipped = True
            return done
        try:
            done.account = _account(row, mapping.account)
            dated_ms = _dated(row, mapping.time, now_ms)
        except Rejected as rejected:
            done.rejections.append(Rejection(ROW, rejected.reason, rejected.detail))
            return done
        work = _Work(self, row, dated_ms, now_ms, done)
        for document in mapping.documents:
            work.attempt(f"document {document.key}", work.documents, document)
        for event in mapping.events:
            work.attempt(f"event {event.type}", work.event, event)
        for opening in mapping.openings:
            work.attempt("opening", work.opening, opening)
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
    dated_ms = None if time is None else _moment(row, time)
    return 0 if dated_ms is None or not 0 <= dated_ms <= now_ms else dated_ms


def _moment(row: Row, source: Source) -> int | None:
    """A time in milliseconds; None where there is none."""
    given = expression(source)
    if given.reading == "value":
        given = msgspec.structs.replace(given, reading="timestamp")
    moment_ms = row.read(given)
    if moment_ms is UNSET:
        return None
    if type(moment_ms) is not int:
        # A constant, a default, a template, or a column that is read as something else.
        why = "it takes milliseconds since 1970"
        raise Rejected(Reason.INVALID_TIME, f"{_named(given)}: {why}, and is {moment_ms!r}.")
    return moment_ms


@dataclass(slots=True)
class _Work:
    """The targets of one row."""

    translator: Translator
    row: Row
    dated_ms: int
    now_ms: int
    done: Translated

    def attempt(self, name: str, make: Callable[[str, Any], None], target: Any) -> None:
        """Makes what a target says; what is wrong rejects this target alone."""
        try:
            make(name, target)
        except Rejected as rejected:
            self._reject(name, rejected.reason, rejected.detail)
        except Empty as empty:
            detail = f"Column {str(empty)!r}, which names it, is empty."
            self._reject(name, Reason.COLUMN_EMPTY, detail)
        except SynclineError as error:
            self._reject(name, error.code, error.detail)

    def _reject(self, name: str, code: str, detail: str) -> None:
        self.done.rejections.append(Rejection(name, code, detail))

    # --- documents ----------------------------------------------------------------------------

    def documents(self, name: str, target: DocumentTarget) -> None:
        for row, value in self._documents(target):
            self.attempt(name, self._add_document, (row, target.key, value))

    def _add_document(self, name: str, document: tuple[Row, str, Any]) -> None:
        row, template, value = document
        key = row.fill(template)
        try:
            self.done.mutations.append((name, self._mutation(key, value)))
        except SynclineError as error:
            self._reject(name, error.code, f"{key}: {error.detail}")

    def _mutation(self, key: str, value: Any) -> Mutation:
        if key in SERVER_OWNED:
            raise SynclineError(
                Code.SERVER_OWNED, "The service computes it from events: import those."
            )
        one, account = self.translator, self.done.account
        return one.intake.imported(
            require_key(key), value, one.mapping.source, account, self.dated_ms
        )

    def _documents(self, target: DocumentTarget) -> Iterator[tuple[Row, Any]]:
        """The values of documents, each with the row from which its key is made."""
        if target.each is not None:
            yield from self._members(expression(target.each))
            return
        value = self._fields(target.fields) if target.fields else self._whole(target.value)
        if value is not UNSET:
            yield self.row, value

    def _members(self, each: Expression) -> Iterator[tuple[Row, Any]]:
        members = self.row.read(each)
        if members is UNSET:
            return
        if not isinstance(members, dict):
            raise Rejected(Reason.UNREADABLE, f"{_named(each)}: it takes an object.")
        for member, value in members.items():
            if value is not None:
                yield Row(self.row.position, {**self.row.columns, MEMBER: member}), value

    def _whole(self, value: Source | None) -> Any:
        assert value is not None
        return self.row.read(expression(value))

    def _fields(self, fields: dict[str, Source]) -> Any:
        """An object of the fields that are not empty; UNSET where no column holds anything."""
        values = self._object(fields)
        columns = [expression(source).column for source in fields.values()]
        holds = any(one is not None and not self.row.is_empty(one) for one in columns)
        return values if holds else UNSET

    def _object(self, fields: dict[str, Source]) -> dict[str, Any]:
        values = {name: self.row.read(expression(source)) for name, source in fields.items()}
        return {name: value for name, value in values.items() if value is not UNSET}

    # --- events -------------------------------------------------------------------------------

    def event(self, name: str, target: EventTarget) -> None:
        kind = IMPORTED_FACTS.get(target.type) or self.translator.events.types.get(target.type)
        assert kind is not None, "checked when the import began"
        claimed_ms = _moment(self.row, target.occurred_at)
        if claimed_ms is None and self.dated_ms == 0:
            raise Rejected(Reason.COLUMN_EMPTY, "Nothing tells when it happened.")
        id = self._id(self.row.fill(target.id))
        self._add_event(name, kind, id, self._object(target.fields), claimed_ms)

    def _id(self, text: str) -> UUID:
        """The event's own id where it is a UUID, else one that the same text always has."""
        if OWN_ID.fullmatch(text):
            return UUID(text)
        return uuid5(IDS, f"{self.translator.mapping.source}\0{text}")

    def opening(self, name: str, target: OpeningTarget) -> None:
        """What repeats has the same id: an opening is known by what it says."""
        says: dict[str, Any] = {}
        totals = {total: self._claim(source) for total, source in target.totals.items()}
        if claims := {total: amount for total, amount in totals.items() if amount}:
            says["totals"] = claims
        given = {"blink_speed": target.blink_speed, "evolution_level": target.evolution_level}
        says |= self._object({part: source for part, source in given.items() if source is not None})
        if target.streak_days is not None and target.last_day is not None:
            says |= self._streak(name, target.streak_days, target.last_day)
        if says:
            told = encode([self.translator.mapping.source, self.done.account, says]).decode()
            self._add_event(name, OPENING, uuid5(IDS, told), says, None)

    def _claim(self, source: Source) -> int:
        """So much of a total; 0 where it says nothing."""
        amount = self.row.read(expression(source))
        if amount is UNSET:
            return 0
        if type(amount) is not int or amount < 0:
            why = "an opening is a whole number from 0 on"
            raise Rejected(Reason.UNREADABLE, f"{_named(expression(source))}: {why}.")
        return amount

    def _streak(self, name: str, days: Source, last: Source) -> dict[str, Any]:
        count, day = self._claim(days), self.row.read(expression(last))
        if day is not UNSET:
            return {"streak": {"days": count, "last": day}}
        if count:
            detail = f"{_named(expression(last))} is empty, so the streak has no place."
            self._reject(name, Reason.COLUMN_EMPTY, detail)
        return {}

    def _add_event(
        self, name: str, kind: EventType, id: UUID, payload: Any, claimed_ms: int | None
    ) -> None:
        one = self.translator
        sender = Sender(f"import:{one.mapping.source}", None, self.now_ms)
        event = one.events.imported(kind, id, payload, claimed_ms, self.dated_ms, sender)
        self.done.events.append((name, event))


def _named(source: Expression) -> str:
    return f"Column {source.column!r}" if source.column is not None else "The value"
