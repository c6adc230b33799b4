"""Push and pull on the wire."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from app.documents.types import (
    Base,
    Device,
    DeviceTime,
    Key,
    Milliseconds,
    OperationBody,
    Outcome,
    Version,
)
from app.ledger.types import EventResult, EventText
from app.openapi import SCHEMAS


class MutationBody(msgspec.Struct, forbid_unknown_fields=True):
    """One change made on the device. `put` takes `value`; `patch` takes operations."""

    id: UUID
    op: Literal["put", "patch", "delete"]
    key: str
    base: Base = None
    edited_at: DeviceTime | None = None
    value: Raw | UnsetType = UNSET
    base_value: Raw | UnsetType = UNSET
    delta: dict[str, Raw] | UnsetType = UNSET
    set: dict[str, Raw] | UnsetType = UNSET
    operations: list[OperationBody] | UnsetType = UNSET


class MutationIdentity(msgspec.Struct):
    """What has to be legible of a mutation, for it to be refused alone."""

    id: UUID
    key: Raw = Raw(b'""')


MutationText = Annotated[
    Raw, Meta(extra_json_schema={"$ref": SCHEMAS.format(name=MutationBody.__name__)})
]
"""A mutation that is decoded by itself, so that a bad one is refused by itself."""


Pending = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="Mutations and events that wait after these")
]


class SyncRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the device has done since, and where its copy stands."""

    device: Device | None = None
    cursor: str | None = None
    sent_at: DeviceTime | None = None
    previous: UUID | UnsetType | None = UNSET
    mutations: list[MutationText] = []
    events: list[EventText] = []
    limit: Annotated[int, Meta(ge=1)] | None = None
    pending: Pending | None = None


class MutationResult(msgspec.Struct, omit_defaults=True):
    """What became of one mutation; `value` where the document is not what the device sent."""

    id: UUID
    outcome: Outcome | Literal["rejected"]
    key: str
    version: Version | UnsetType = UNSET
    deleted: bool | UnsetType = UNSET
    value: Raw | UnsetType = UNSET
    updated_at: Milliseconds | UnsetType = UNSET
    problem: dict[str, Any] | UnsetType = UNSET


class Change(msgspec.Struct):
    """A document as it is now, changed after the cursor."""

    key: Key
    version: Version
    value: Raw
    deleted: bool
    updated_at: Milliseconds
    device: Device | None


class SyncAnswer(msgspec.Struct):
    """Results in the order of the mutations; changes in the order in which they happened.

    `events` has the results of the events, where some were sent.
    """

    cursor: str
    results: list[MutationResult]
    changes: list[Change]
    more: bool
    server_time: Milliseconds
    events: list[EventResult] | UnsetType = UNSET
