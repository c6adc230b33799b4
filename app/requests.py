"""Reading requests: bodies, queries and conditional headers, with a problem for each fault."""

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec

from app.errors import Code, SynclineError
from merge_rules.canonical import MAX_DEPTH, too_deep

T = TypeVar("T")

ENVELOPE_DEPTH = 8
"""Levels that a request puts around a value, generously."""

_ETAG = re.compile(r'(W/)?"([^"]*)"')


def decode_body(data: bytes, kind: type[T]) -> T:
    """The body as `kind`; raises MALFORMED_JSON or INVALID_REQUEST, naming the field at fault."""
    if too_deep(data, MAX_DEPTH + ENVELOPE_DEPTH):
        # A decoder is recursive: depth is refused before it sees the text.
        raise SynclineError(
            Code.INVALID_VALUE, f"No document may be nested deeper than {MAX_DEPTH} levels."
        )
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SynclineError(
            Code.MALFORMED_JSON, f"Send a JSON object in UTF-8. The decoder says: {error}."
        ) from error


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
    return int(version) if not weak and version.isascii() and version.isdigit() else 0


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
