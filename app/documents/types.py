"""Documents on the wire: what a request holds and what an answer says."""

import re
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from app.errors import Code, SynclineError
from merge_rules.rule import OperationName

KEY = re.compile(r"[A-Za-z0-9._:~-]{1,128}")

Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:~-]{1,128}\Z", description="Key of a document")]
Version = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Base = Annotated[
    Version | None,
    Meta(description="Version that the device's copy came from; 0: none; null: unknown"),
]
Device = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9._:~-]{1,64}\Z", description="Random, per opened local store"),
]
Milliseconds = Annotated[int, Meta(description="Milliseconds since 1970-01-01 UTC")]
DeviceTime = Annotated[
    int | Annotated[float, Meta(multiple_of=1)],
    Meta(description="Milliseconds since 1970-01-01 UTC, by the device's clock"),
]
"""Some languages have no integers, and write a whole number as 1764000000000.0."""

Outcome = Literal["applied", "merged", "unchanged", "duplicate", "superseded"]


class OperationBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One operation of a PATCH; `path` is a JSON Pointer, the whole document if it is empty."""

    op: OperationName
    path: str = ""
    value: Raw | UnsetType = UNSET


class PutDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A whole document, with the version that the device last saw."""

    value: Raw
    base: Base = None
    base_value: Raw | UnsetType = UNSET
    device: Device | None = None
    id: UUID | None = None
    edited_at: DeviceTime | None = None
    sent_at: DeviceTime | None = None


class PatchDocument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Operations on the current document: `delta`, then `set`, then `operations`, in order."""

    id: UUID | None = None
    base: Base = None
    device: Device | None = None
    edited_at: DeviceTime | None = None
    sent_at: DeviceTime | None = None
    delta: dict[str, Raw] = {}
    set: dict[str, Raw] = {}
    operations: list[OperationBody] = []


class DeleteQuery(msgspec.Struct, forbid_unknown_fields=True):
    base: Base = None
    device: Device | None = None
    id: UUID | None = None


class RestoreBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Who restores, and the id under which it counts once; both optional."""

    id: UUID | None = None
    device: Device | None = None


class ReceiptEntry(msgspec.Struct):
    """Why one path came out so; `decided` says whose value the result is."""

    path: str
    rule: str
    decided: Literal["yours", "current", "both"]
    base: Any | UnsetType = UNSET
    yours: Any | UnsetType = UNSET
    current: Any | UnsetType = UNSET
    result: Any | UnsetType = UNSET


class DocumentView(msgspec.Struct):
    """A document as it is. `value` is null and `deleted` true once it was deleted."""

    key: Key
    version: Version
    value: Raw
    deleted: bool
    updated_at: Milliseconds


class WriteResult(msgspec.Struct):
    """A document after a write, and what became of the write."""

    key: Key
    version: Version
    deleted: bool
    outcome: Outcome
    updated_at: Milliseconds
    value: Raw | UnsetType = UNSET
    receipt: list[ReceiptEntry] | UnsetType = UNSET


class DocumentEntry(msgspec.Struct):
    """A line of the list of documents; `bytes` is the size of the value."""

    key: Key
    version: Version
    bytes: int
    updated_at: Milliseconds


class DocumentList(msgspec.Struct):
    documents: list[DocumentEntry]


class RevisionEntry(msgspec.Struct):
    """One kept version: who made it, by which mutation, on which base."""

    version: Version
    deleted: bool
    bytes: int
    outcome: Literal["applied", "merged"]
    base: Version | None
    device: Device | None
    id: str | None
    updated_at: Milliseconds


class RevisionList(msgspec.Struct):
    key: Key
    revisions: list[RevisionEntry]


class RevisionView(RevisionEntry, kw_only=True):
    """One kept version with its value; the receipt where what it came from is kept too."""

    key: Key
    value: Raw
    receipt: list[ReceiptEntry] | UnsetType | None = UNSET


def require_key(key: str) -> str:
    """The key, if a document may have it; raises INVALID_KEY."""
    if KEY.fullmatch(key):
        return key
    raise SynclineError(Code.INVALID_KEY, "A key is 1 to 128 characters of A-Z a-z 0-9 . _ : ~ -")
