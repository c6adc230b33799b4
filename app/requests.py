"""Reading requests: bodies, queries and conditional headers, with a problem for each fault."""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec
from litestar import Request
from litestar.datastructures import MultiDict
from msgspec import Raw

from app.errors import Code, SynclineError
from merge_rules.canonical import MAX_DEPTH, without_lone_surrogates

T = TypeVar("T")

DEEPEST = 2 * MAX_DEPTH
"""Levels that are kept of text too deep for a decoder: no value in it fits a document."""
MOST_BRACKETS = 500_000
"""How many of them are looked at one by one; it takes a quarter of a second."""

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_ETAG = re.compile(r'(W/)?"([^"]*)"')
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
"""A version as `etag` writes it: tags are compared as text, so `"07"` is not `"7"`."""


async def read_body(request: Request[Any, Any, Any]) -> bytes:
    """The bytes of the body; raises UNSUPPORTED_ENCODING, since nothing here is unpacked."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("identity", ""):
        raise SynclineError(
            Code.UNSUPPORTED_ENCODING, f"Send the body plain: {encoding!r} is not unpacked here."
        )
    return await request.body()


def decode_body(data: bytes, kind: type[T]) -> T:
    """The body as `kind`; raises MALFORMED_JSON, or INVALID_REQUEST naming the field at fault.

    What `kind` leaves as Raw is not looked into: it may be too deep, or hold a name twice.
    """
    data = without_lone_surrogates(data)
    try:
        body = _decode(data, kind)
    except RecursionError:
        data = _cut(data)
        body = _decode(data, kind)
    if _looked_into(body):
        _refuse_repeated_names(data, body)
    return body


_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


_decoder: Callable[[Any], Any] = cache(msgspec.json.Decoder)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        decoded: T = _decoder(kind).decode(data)
        return decoded
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SynclineError(
            Code.MALFORMED_JSON, f"Send a JSON object in UTF-8. The decoder says: {error}."
        ) from error


def _cut(data: bytes) -> bytes:
    """The text with arrays and objects beyond DEEPEST levels emptied.

    A decoder cannot even skip what is nested a thousand times, but the value that does it may be
    one of many, and only that one is to be refused.
    """
    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS:
        raise SynclineError(
            Code.INVALID_VALUE, f"No document may be nested deeper than {MAX_DEPTH} levels."
        )
    kept, level, start = [], 0, 0
    for token in _TOKEN.finditer(data):
        if token[0] in b"[{":
            level += 1
            if level == DEEPEST:
                kept.append(data[start : token.end()])
        elif token[0] in b"]}":
            if level == DEEPEST:
                start = token.start()
            level -= 1
    return b"".join(kept) + (data[start:] if level < DEEPEST else b"")


def _refuse_repeated_names(text: bytes | Raw, body: Any) -> None:
    """Raises INVALID_REQUEST: a decoder keeps the last of two in silence."""
    if type(body) is list:
        for one, inside in zip(_decode_list(text), body, strict=True):
            if _looked_into(inside):
                _refuse_repeated_names(one, inside)
        return
    members = _decode_members(text)
    if _names_stand_twice(bytes(text), members):
        raise SynclineError(Code.INVALID_REQUEST, "A name stands twice in one object of the body.")
    for name, one in members.items():
        inside = body[name] if type(body) is dict else getattr(body, name)
        if _looked_into(inside):
            _refuse_repeated_names(one, inside)


def _looked_into(body: Any) -> bool:
    """Whether it was decoded into parts: the rest is Raw, or holds no names."""
    return type(body) is list or type(body) is dict or hasattr(body, "__struct_fields__")


def _names_stand_twice(text: bytes, members: Mapping[str, Raw]) -> bool:
    """Whether the text of an object has more names than it gave; by counting quotes, if possible.

    Each name takes two quotes, and more only where it holds some itself.
    """
    quotes = text.count(b'"') - sum(bytes(one).count(b'"') for one in members.values())
    if quotes == 2 * len(members):
        return False
    if not any('"' in name for name in members):
        return True
    return len(json.loads(text, object_pairs_hook=list, parse_int=str)) > len(members)


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Of a route that takes no parameters."""


def decode_query(query: Mapping[str, Any], kind: type[T]) -> T:
    """The query as `kind`; raises INVALID_REQUEST, naming the parameter at fault."""
    if isinstance(query, MultiDict):
        for name in query:
            if len(query.getall(name)) > 1:
                raise SynclineError(
                    Code.INVALID_REQUEST, f"The parameter `{name}` stands twice.", path=f"$.{name}"
                )
    try:
        return msgspec.convert(dict(query), kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> SynclineError:
    _, _, path = message.partition(" - at `")
    extensions = {"path": path.rstrip("`")} if path else {}
    return SynclineError(Code.INVALID_REQUEST, f"{message}.", **extensions)


def if_match(header: str | None) -> int | Literal["*"] | None:
    """The version that If-Match asks for; 0, which no document has, for a tag not ours.

    Strong comparison (RFC 9110 §13.1.1): a weak tag never matches.
    """
    if header is None:
        return None
    if header.strip() == "*":
        return "*"
    tag = _ETAG.fullmatch(header.strip())
    if tag is None:
        raise SynclineError(
            Code.INVALID_REQUEST, 'If-Match takes one version in quotes, such as "7", or *.'
        )
    weak, version = tag.groups()
    return int(version) if not weak and _VERSION.fullmatch(version) else 0


def creates_only(header: str | None) -> bool:
    """Whether If-None-Match of a write asks that there be no document; raises INVALID_REQUEST.

    A condition that is not understood must not be dropped: the write would go through.
    """
    if header is None:
        return False
    if header.strip() != "*":
        raise SynclineError(Code.INVALID_REQUEST, "If-None-Match takes * on a write.")
    return True


def strong_match(header: str, tag: str) -> bool:
    """Whether If-Match holds the tag; a weak one never matches (RFC 9110 §13.1.1)."""
    return header.strip() == "*" or ("", tag) in _ETAG.findall(header)


def none_match(header: str | None, version: int | str) -> bool:
    """Whether If-None-Match of a read holds the version, so that nothing need be sent."""
    if header is None:
        return False
    return header.strip() == "*" or any(tag == str(version) for _, tag in _ETAG.findall(header))


def etag(version: int | str) -> str:
    return f'"{version}"'


def prefers_minimal(header: str | None) -> bool:
    """Whether `Prefer: return=minimal` is asked for (RFC 7240)."""
    if header is None:
        return False
    preferences = {part.partition(";")[0].strip().lower() for part in header.split(",")}
    return bool(preferences & {"return=minimal", 'return="minimal"'})


def uuid_text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
