"""Reading requests: bodies, queries and conditional headers, with a problem for each fault."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Raw

from app.errors import Code, SynclineError
from merge_rules.canonical import MAX_DEPTH, too_deep

T = TypeVar("T")

ENVELOPE_DEPTH = 8
"""Levels that a request puts around a value, generously."""

_ETAG = re.compile(r'(W/)?"([^"]*)"')
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
"""A version as `etag` writes it: tags are compared as text, so `"07"` is not `"7"`."""


def decode_body(data: bytes, kind: type[T]) -> T:
    """The body as `kind`; raises MALFORMED_JSON or INVALID_REQUEST, naming the field at fault.

    Where `kind` omits defaults, a name that stands twice is refused as well.
    """
    if too_deep(data, MAX_DEPTH + ENVELOPE_DEPTH):
        # A decoder is recursive: depth is refused before it sees the text.
        raise SynclineError(
            Code.INVALID_VALUE, f"No document may be nested deeper than {MAX_DEPTH} levels."
        )
    try:
        body = msgspec.json.decode(data, type=kind)
        if _may_repeat_names(data, body):
            names = json.loads(data.decode(), object_pairs_hook=_pairs, parse_int=str)
            _refuse_repeated_names(body, names)
        return body
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SynclineError(
            Code.MALFORMED_JSON, f"Send a JSON object in UTF-8. The decoder says: {error}."
        ) from error


def _may_repeat_names(data: bytes, body: Any) -> bool:
    """Whether the text has other quotes than the body; a decoder keeps the last of two in silence.

    Cheap, since nearly every body passes: what it held stands in it once, Raw members verbatim.
    """
    config = getattr(body, "__struct_config__", None)
    if config is None or not config.omit_defaults:
        return False
    return data.count(b'"') != msgspec.json.encode(body).count(b'"') or b"\\u0022" in data


class _Repeated(dict[str, Any]):
    """An object of which a name stood twice."""


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(items)
    return names if len(names) == len(items) else _Repeated(names)


def _refuse_repeated_names(body: Any, read: Any) -> None:
    """Raises INVALID_REQUEST; inside Raw members the document's own check does."""
    if isinstance(body, Raw):
        return
    if isinstance(read, _Repeated):
        raise SynclineError(Code.INVALID_REQUEST, "A name stands twice in one object of the body.")
    if isinstance(read, dict):
        for name, inside in read.items():
            below = body[name] if isinstance(body, dict) else getattr(body, name)
            _refuse_repeated_names(below, inside)
    elif isinstance(read, list):
        for below, inside in zip(body, read, strict=True):
            _refuse_repeated_names(below, inside)


def decode_query(query: Mapping[str, Any], kind: type[T]) -> T:
    """The query as `kind`; raises INVALID_REQUEST, naming the parameter at fault."""
    try:
        return msgspec.convert(dict(query), kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error).replace("`$.", "`")) from error


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


def none_match(header: str | None, version: int) -> bool:
    """Whether If-None-Match of a read holds the version, so that nothing need be sent."""
    if header is None:
        return False
    return header.strip() == "*" or any(tag == str(version) for _, tag in _ETAG.findall(header))


def etag(version: int) -> str:
    return f'"{version}"'


def prefers_minimal(header: str | None) -> bool:
    """Whether `Prefer: return=minimal` is asked for (RFC 7240)."""
    if header is None:
        return False
    preferences = {part.partition(";")[0].strip().lower() for part in header.split(",")}
    return bool(preferences & {"return=minimal", 'return="minimal"'})


def uuid_text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
