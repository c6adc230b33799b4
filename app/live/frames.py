"""Frames as text: what is sent is encoded once for many, what comes is checked."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app import problems
from app.errors import Code, SynclineError
from app.live.types import (
    Authenticated,
    Changes,
    ClientFrame,
    Connected,
    Hello,
    Ping,
    Poke,
    Pong,
    Presence,
    Problem,
    Push,
    Pushed,
    Reauth,
    Ref,
    Resync,
    Token,
)
from app.requests import decode_body
from app.sync.cursor import Cursor
from app.sync.types import Change, SyncAnswer

_encode = msgspec.json.Encoder().encode

POKE = _encode(Poke())
SLOW = _encode(Resync("slow"))


def changes(cursor: Cursor, changed: list[Change]) -> bytes:
    return _encode(Changes(cursor.encode(), changed))


def cursor_expired(error: SynclineError) -> bytes:
    return _encode(Resync("cursor-expired", problems.problem(error)))


def presence(devices: Sequence[tuple[str, int]]) -> bytes:
    return _encode(Presence([Connected(device, since) for device, since in devices]))


def reauth(expires_at_ms: int) -> bytes:
    return _encode(Reauth(expires_at_ms))


def authenticated(expires_at_ms: int) -> bytes:
    return _encode(Authenticated(expires_at_ms))


def pong(server_time: int, ref: Ref | UnsetType) -> bytes:
    return _encode(Pong(server_time, ref))


def pushed(answer: SyncAnswer, ref: Ref | UnsetType) -> bytes:
    return _encode(
        Pushed(
            cursor=answer.cursor,
            results=answer.results,
            changes=answer.changes,
            more=answer.more,
            server_time=answer.server_time,
            events=answer.events,
            ref=ref,
        )
    )


def problem(error: SynclineError, ref: Ref | UnsetType) -> bytes:
    return _encode(Problem(problems.problem(error), ref))


def problem_text(document: bytes, ref: Ref | UnsetType) -> bytes:
    """A problem document as it is sent over HTTP, in a frame."""
    return _encode(Problem(Raw(document), ref))


def read(text: str) -> ClientFrame:
    """What a client sent. Raises SynclineError: MALFORMED_JSON, INVALID_REQUEST; NotAFrame for
    what has not even a `type`."""
    data = text.encode()
    try:
        kind = _kind(data).type
    except RecursionError:
        kind = "push"  # whose mutations may be as deep as they like: each is refused alone
    except msgspec.DecodeError as error:
        raise NotAFrame("send a JSON object with a type") from error
    frame = _CLIENT_FRAMES.get(kind)
    if frame is None:
        raise SynclineError(
            Code.INVALID_REQUEST, "No frame has this `type`: see the documents.", path="$.type"
        )
    return decode_body(data, frame)


def ref_of(text: str) -> Ref | UnsetType:
    """What a frame that cannot be read is known by, if at least that can."""
    try:
        return _named(text).ref
    except (RecursionError, msgspec.DecodeError):
        return UNSET


class NotAFrame(Exception):
    """The text says what a frame is."""


class _Kind(msgspec.Struct):
    type: str


class _Named(msgspec.Struct):
    ref: Ref | UnsetType = UNSET


_kind = msgspec.json.Decoder(_Kind).decode
_named = msgspec.json.Decoder(_Named).decode
_CLIENT_FRAMES: dict[str, type[ClientFrame]] = {
    "hello": Hello,
    "ping": Ping,
    "token": Token,
    "push": Push,
}
