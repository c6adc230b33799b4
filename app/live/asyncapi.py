"""The AsyncAPI document of the live socket, built from the structs of its frames.

They are the very ones that are decoded and encoded, so the document cannot drift from the code.
What it says beyond them (which frame answers which, what a close code means) stands in the
tables here, and tests hold what the service sends against it.
"""

from importlib.metadata import version
from inspect import getdoc
from types import UnionType
from typing import Any, get_args

import msgspec

from app.ledger.types import EventBody
from app.live.types import (
    Authenticated,
    Changes,
    ClientFrame,
    CloseCode,
    Hello,
    Ping,
    Poke,
    Pong,
    Problem,
    Push,
    Pushed,
    Resync,
    ServerFrame,
    Token,
)
from app.openapi import SCHEMAS, portable
from app.sync.types import MutationBody

ADDRESS = "/v1/live"
CHANNEL = "#/channels/live"
MESSAGES = "#/components/messages/{name}"

PARTS = (MutationBody, EventBody)
"""Kinds to which the schema of a push refers, since it keeps them as text."""

ANSWERS: dict[type, tuple[type, ...]] = {
    Hello: (Changes, Poke, Resync),
    Ping: (Pong, Problem),
    Token: (Authenticated, Problem),
    Push: (Pushed, Problem),
}
"""What a client can wait for after a frame of its own."""

CLOSE_CODES: dict[CloseCode, str] = {
    CloseCode.UNSUPPORTED_DATA: "A binary message came: frames are text",
    CloseCode.MALFORMED: "A message came that is no frame",
    CloseCode.TOO_LARGE: "A message came that is longer than a frame may be",
    CloseCode.INTERNAL: "The service failed; its log says why",
    CloseCode.RESTARTING: "The process stops: connect again, after a random pause",
    CloseCode.TRY_AGAIN: "The keys that check tokens cannot be fetched: connect again later",
    CloseCode.UNAUTHENTICATED: "There was no token, a bad one, or one that has expired",
    CloseCode.FORBIDDEN: "The token is of another account than the socket",
    CloseCode.TIMED_OUT: "No hello or sign of life came, or frames were not taken",
    CloseCode.TOO_MANY: "There are more sockets, or came more frames, than one may have",
}


def build() -> bytes:
    """The document, as JSON."""
    clients, servers = _kinds(ClientFrame), _kinds(ServerFrame)
    frames = (*clients, *servers)
    _, schemas = msgspec.json.schema_components([*frames, *PARTS], ref_template=SCHEMAS)
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Syncline: live",
            "version": version("syncline"),
            "description": "Changes pushed to every device of an account, and who is connected.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "live": {
                "address": ADDRESS,
                "title": "The live socket",
                "description": "A WebSocket of text messages, each one JSON object. The client "
                "begins with `hello`. Types and members that it does not know, it ignores.",
                "messages": {
                    name(kind): {"$ref": MESSAGES.format(name=name(kind))} for kind in frames
                },
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
                "x-close-codes": [
                    {"code": int(code), "meaning": meaning} for code, meaning in CLOSE_CODES.items()
                ],
            }
        },
        "operations": {
            **{f"receive_{name(kind)}": _operation("receive", kind) for kind in clients},
            **{f"send_{name(kind)}": _operation("send", kind) for kind in servers},
        },
        "components": {
            "messages": {name(kind): _message(kind) for kind in frames},
            "schemas": portable(schemas),
        },
    }
    return msgspec.json.encode(document)


def _kinds(union: UnionType) -> tuple[type[msgspec.Struct], ...]:
    return get_args(union)


def name(kind: type) -> str:
    """The `type` of a frame: the tag of its struct, or the one value of its member."""
    _, schemas = msgspec.json.schema_components([kind], ref_template=SCHEMAS)
    (name,) = schemas[kind.__name__]["properties"]["type"]["enum"]
    return str(name)


def _message(kind: type) -> dict[str, Any]:
    return {
        "name": name(kind),
        "title": kind.__name__,
        "summary": (getdoc(kind) or "").partition("\n\n")[0].replace("\n", " "),
        "payload": {"$ref": SCHEMAS.format(name=kind.__name__)},
    }


def _operation(action: str, kind: type) -> dict[str, Any]:
    """What the service does with a frame: it receives those of clients and sends its own."""
    operation: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": CHANNEL},
        "messages": [_of_channel(kind)],
    }
    if kind in ANSWERS:
        operation["reply"] = {
            "channel": {"$ref": CHANNEL},
            "messages": [_of_channel(answer) for answer in ANSWERS[kind]],
        }
    return operation


def _of_channel(kind: type) -> dict[str, str]:
    return {"$ref": f"{CHANNEL}/messages/{name(kind)}"}
