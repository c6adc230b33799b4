"""From the text of an event to what the pipeline decides; what is wrong rejects it alone."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec

from app.documents.decide import FAILURES
from app.documents.refusals import refused
from app.errors import Code, SynclineError
from app.ledger.decide import failed, limited
from app.ledger.event_type import EventType, EventTypes, Reads
from app.ledger.model import Event
from app.ledger.types import EventBody, EventIdentity
from app.requests import decode_body
from merge_rules.canonical import MAX_INTEGER, encode, parse
from merge_rules.refusal import Refusal
from merge_rules.stamp import SKEW_TOLERANCE_MS

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class UnreadEvent:
    """An event that is rejected before anything is looked up."""

    id: UUID
    type: str
    problem: SynclineError


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends events, and when by whose clock."""

    device: str | None
    sent_at_ms: int | None
    now_ms: int


@dataclass(frozen=True, slots=True)
class EventIntake:
    """The types that there are, and the limits that every event meets first."""

    types: EventTypes
    max_bytes: int
    """Of a payload, in canonical form."""
    oldest_days: int
    """Days that an event may lie in the past."""

    def read(self, text: bytes, index: int, sender: Sender) -> Event | UnreadEvent:
        """Raises SynclineError only where the id cannot be read: nobody could be told of the
        rest."""
        try:
            return self._event(decode_body(text, EventBody), sender)
        except SynclineError as problem:
            try:
                identity = msgspec.json.decode(text, type=EventIdentity)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                where = f"events[{index}]"
                raise SynclineError(
                    Code.INVALID_REQUEST,
                    f"`{where}` has no `id` that can be read: send a UUID with each event.",
                    path=f"$.{where}",
                ) from error
            return UnreadEvent(identity.id, _text(identity.type), problem.as_value())

    def imported(
        self,
        event_type: EventType,
        id: UUID,
        payload: Any,
        claimed_ms: int | None,
        otherwise_ms: int,
        sender: Sender,
    ) -> Event:
        """A fact of an earlier system, of any age; it lies in the future no more than others.

        `payload` is JSON that nobody has looked at. Raises SynclineError.
        """
        decoded, text = self._payload(event_type, encode(payload))
        at_ms = otherwise_ms if claimed_ms is None else claimed_ms
        at_ms = max(0, min(at_ms, sender.now_ms))
        return Event(
            id=id,
            type=event_type,
            payload=decoded,
            text=text,
            digest=digest(event_type.name, text, claimed_ms),
            at_ms=at_ms,
            claimed_at_ms=None if at_ms == claimed_ms else _kept(claimed_ms),
            device=sender.device,
            reads=reads_of(event_type, decoded),
        )

    def _event(self, body: EventBody, sender: Sender) -> Event:
        event_type = self.types.get(body.type)
        if event_type is None or event_type.internal:
            known = ", ".join(
                f"`{name}`" for name, one in self.types.registered().items() if not one.internal
            )
            raise SynclineError(
                Code.UNKNOWN_EVENT_TYPE, f"The types of events here are {known}.", path="$.type"
            )
        payload, text = self._payload(event_type, bytes(body.payload))
        claimed_ms = None if body.occurred_at is None else int(body.occurred_at)
        at_ms, clamped = self._time(claimed_ms, sender)
        return Event(
            id=body.id,
            type=event_type,
            payload=payload,
            text=text,
            digest=digest(body.type, text, claimed_ms),
            at_ms=at_ms,
            claimed_at_ms=_kept(claimed_ms) if clamped else None,
            device=sender.device,
            reads=reads_of(event_type, payload),
        )

    def _payload(self, event_type: EventType, raw: bytes) -> tuple[Any, bytes]:
        """The payload as a struct of its type, and its canonical bytes."""
        try:
            value, text = parse(raw)
        except Refusal as refusal:
            raise refused(refusal.below("payload")) from refusal
        if len(text) > self.max_bytes:
            raise SynclineError(
                Code.INVALID_EVENT,
                f"The payload of an event may have {self.max_bytes} bytes.",
                path="$.payload",
                limit=self.max_bytes,
            )
        return decode_payload(event_type, value), text

    def _time(self, claimed_ms: int | None, sender: Sender) -> tuple[int, bool]:
        """When it happened by the service's clock, and whether the claim had to be moved.

        A device's clock that is off by more than two minutes when it sends is set right, which
        moves nothing; what still lies in the future, or too far back, is moved to what may be.
        """
        now_ms = sender.now_ms
        if claimed_ms is None:
            return now_ms, False
        at_ms = claimed_ms
        if sender.sent_at_ms is not None and abs(now_ms - sender.sent_at_ms) > SKEW_TOLERANCE_MS:
            at_ms += now_ms - sender.sent_at_ms
        oldest_ms = max(0, now_ms - self.oldest_days * DAY_MS)
        moved = max(oldest_ms, min(at_ms, now_ms))
        return moved, at_ms < oldest_ms or at_ms > now_ms + SKEW_TOLERANCE_MS


def decode_payload(event_type: EventType, value: Any) -> Any:
    """The payload as a struct of its type; raises INVALID_EVENT that names the part at fault, or
    PROJECTION_FAILED, since the struct may have code of its own."""
    try:
        with limited():
            return msgspec.convert(value, event_type.payload)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        path = f"$.payload{where.rstrip('`')}"
        detail = f"{what} at `{path}`, by the type `{event_type.name}`."
        raise SynclineError(Code.INVALID_EVENT, detail, path=path) from error
    except FAILURES as error:
        raise failed(event_type) from error


def reads_of(event_type: EventType, payload: Any) -> Reads:
    """What the type says that its projection reads; raises PROJECTION_FAILED."""
    try:
        with limited():
            reads = event_type.reads(payload)
            return Reads(tuple(reads.totals), tuple(reads.levels))
    except FAILURES as error:
        raise failed(event_type) from error


def digest(type_name: str, text: bytes, claimed_ms: int | None) -> bytes:
    """What an event says; not who sends it nor when, since a retry may say otherwise."""
    return blake2b(f"{type_name}\0{claimed_ms}\0".encode() + text, digest_size=16).digest()


def _kept(claimed_ms: int | None) -> int | None:
    """A time that cannot be, as far as it fits into its column: a clock may say 10³⁰⁰."""
    return None if claimed_ms is None else max(-MAX_INTEGER, min(claimed_ms, MAX_INTEGER))


def _text(name: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(name, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
