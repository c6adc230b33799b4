"""Events on the wire."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from app.documents.types import Device, DeviceTime, Milliseconds
from app.openapi import SCHEMAS


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """A fact, counted once by its `id`; its type says what `payload` holds."""

    id: UUID
    type: str
    payload: Raw
    occurred_at: DeviceTime | None = None


class EventIdentity(msgspec.Struct):
    """What has to be legible of an event, for it to be refused alone."""

    id: UUID
    type: Raw = Raw(b'""')


EventText = Annotated[
    Raw, Meta(extra_json_schema={"$ref": SCHEMAS.format(name=EventBody.__name__)})
]
"""An event that is decoded by itself, so that a bad one is refused by itself."""


class EventsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Up to 500 events; `sent_at` sets the clock of the device right."""

    events: list[EventText]
    device: Device | None = None
    sent_at: DeviceTime | None = None


class EventResult(msgspec.Struct, omit_defaults=True):
    """What became of one event; `effects` is what it added to which total."""

    id: UUID
    outcome: Literal["accepted", "duplicate", "rejected"]
    type: str
    occurred_at: Milliseconds | UnsetType = UNSET
    clamped: bool = False
    """Whether the device's time could not be, and was moved to `occurred_at`."""
    effects: dict[str, int] | UnsetType = UNSET
    problem: dict[str, Any] | UnsetType = UNSET


class EventsAnswer(msgspec.Struct):
    """Results in the order of the events."""

    results: list[EventResult]


class TotalAudit(msgspec.Struct):
    """A total, and the sum of what the events added to it."""

    name: str
    total: int
    sum: int


class Audit(msgspec.Struct):
    """Whether the totals of the account are the sums of its events; `differences` if not."""

    ok: bool
    events: int
    totals: list[TotalAudit]
    differences: list[TotalAudit]
