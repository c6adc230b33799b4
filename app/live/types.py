"""The frames of the live socket, and the codes with which it is closed.

Every frame is one text message with a JSON object, whose `type` says which. A client ignores
types and members that it does not know.
"""

from enum import IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.documents.types import Device, DeviceTime, Milliseconds
from app.ledger.types import EventResult, EventText
from app.sync.types import Change, MutationResult, MutationText, Pending

Ref = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""What a client gives a frame, to know the answer by."""
Cursor = Annotated[str, Meta(description="Opaque; everything up to it has been sent")]


class CloseCode(IntEnum):
    """Why a socket was closed; the reason beside it says more."""

    UNSUPPORTED_DATA = 1003
    """A binary message: frames are text."""
    MALFORMED = 1007
    """A message that is no frame."""
    TOO_LARGE = 1009
    """A message past `SYNCLINE_LIVE_FRAME_BYTES`."""
    INTERNAL = 1011
    """The service failed; its log says why."""
    RESTARTING = 1012
    """The process stops: connect again."""
    TRY_AGAIN = 1013
    """The keys that check tokens cannot be fetched."""
    UNAUTHENTICATED = 4401
    """No token, a bad one, or one that has expired."""
    FORBIDDEN = 4403
    """A token of another account than the socket's."""
    TIMED_OUT = 4408
    """No hello, no sign of life, or frames that are not taken."""
    TOO_MANY = 4429
    """More sockets, or more frames, than one may have."""


# --- what clients send ------------------------------------------------------------------------


class Hello(msgspec.Struct, forbid_unknown_fields=True):
    """The first frame: who is there, and where its copy stands; null: it has nothing."""

    type: Literal["hello"]
    token: str
    device: Device
    cursor: str | None = None


class Ping(msgspec.Struct, forbid_unknown_fields=True):
    """Asks for a `pong`: browsers cannot send pings of the protocol."""

    type: Literal["ping"]
    ref: Ref | UnsetType = UNSET


class Token(msgspec.Struct, forbid_unknown_fields=True):
    """A newer token of the same account."""

    type: Literal["token"]
    token: str


class Push(msgspec.Struct, forbid_unknown_fields=True):
    """As the body of `POST /v1/sync`. Without `device` that of the hello counts, and without
    `cursor` where this socket stands."""

    type: Literal["push"]
    ref: Ref | UnsetType = UNSET
    device: Device | UnsetType | None = UNSET
    cursor: str | UnsetType | None = UNSET
    sent_at: DeviceTime | None = None
    previous: UUID | UnsetType | None = UNSET
    mutations: list[MutationText] = []
    events: list[EventText] = []
    limit: Annotated[int, Meta(ge=1)] | None = None
    pending: Pending | None = None


ClientFrame = Hello | Ping | Token | Push


# --- what the service sends -------------------------------------------------------------------


class Changes(msgspec.Struct, tag_field="type", tag="changes"):
    """Documents as they are now, in the order in which they changed.

    Everything up to `cursor` has been sent on this socket, so a client may keep it. The first
    one after the hello is sent even if it is empty.
    """

    cursor: Cursor
    changes: list[Change]


class Poke(msgspec.Struct, tag_field="type", tag="poke"):
    """More has changed than is sent unasked: pull with `push`, or with `POST /v1/sync`.

    Until a `push` was answered to the end (`more` false), only further pokes follow.
    """


class Connected(msgspec.Struct):
    """A device of this account that has a socket, and since when."""

    device: Device
    since: Milliseconds


class Presence(msgspec.Struct, tag_field="type", tag="presence"):
    """All devices of this account that are connected, this one among them."""

    devices: list[Connected]


class Resync(msgspec.Struct, tag_field="type", tag="resync", omit_defaults=True):
    """The client has to pull by itself, as after a poke.

    `slow`: it did not take what was sent in time. `cursor-expired`: `problem` says what to do.
    """

    reason: Literal["slow", "cursor-expired"]
    problem: dict[str, Any] | UnsetType = UNSET


class Reauth(msgspec.Struct, tag_field="type", tag="reauth"):
    """The token expires: answer with `token` until then, or the socket is closed with 4401."""

    expires_at: Milliseconds


class Authenticated(msgspec.Struct, tag_field="type", tag="authenticated"):
    """The answer to `token`; one that never expires is asked for again all the same."""

    expires_at: Milliseconds


class Pong(msgspec.Struct, tag_field="type", tag="pong", omit_defaults=True):
    """The answer to `ping`."""

    server_time: Milliseconds
    ref: Ref | UnsetType = UNSET


class Pushed(msgspec.Struct, tag_field="type", tag="pushed", omit_defaults=True):
    """The answer to `push`: that of `POST /v1/sync`."""

    cursor: Cursor
    results: list[MutationResult]
    changes: list[Change]
    more: bool
    server_time: Milliseconds
    events: list[EventResult] | UnsetType = UNSET
    ref: Ref | UnsetType = UNSET


class Problem(msgspec.Struct, tag_field="type", tag="problem", omit_defaults=True):
    """A frame failed as a whole: a `push` with the problem that `POST /v1/sync` would answer."""

    problem: dict[str, Any] | msgspec.Raw
    ref: Ref | UnsetType = UNSET


ServerFrame = Changes | Poke | Presence | Resync | Reauth | Authenticated | Pong | Pushed | Problem
