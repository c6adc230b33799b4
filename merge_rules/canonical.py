"""Canonical JSON: one byte string for one value, and the limits of what a document may hold.

Canonical: no white space, keys sorted by their UTF-8 bytes, no NaN or infinity, no -0.0, no
`\\u0000`, integers within ±(2^53 - 1), at most 32 levels of arrays and objects. Values are
compared by these bytes and never with `==`, to which True, 1 and 1.0 are one value.
"""

import json
import re
from collections import Counter
from typing import Any

import msgspec

from merge_rules.refusal import NotCanonical, NotJson, Path

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()
# Possessive, and the last quote optional: an unterminated string ends with the text.
_STRING = re.compile(rb'"[^"]*+"?')
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_DIGITS = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else 0 for byte in range(256))
_LONG_NUMBER = b"0" * 16
"""What a number of 16 digits becomes under `_DIGITS`."""


def encode(value: Any) -> bytes:
    """The canonical bytes of a value that `parse` or `check` has let through."""
    return _encoder.encode(value)


def decode(data: bytes | str) -> Any:
    """The value of canonical bytes, or of their text; for outside input use `parse`."""
    return _decoder.decode(data)


def same(a: Any, b: Any) -> bool:
    """Whether two values have the same canonical bytes."""
    kind = type(a)
    if kind is not type(b):
        return False
    if kind is str or kind is int or kind is bool or a is None:
        return bool(a == b)
    return encode(a) == encode(b)


def depth(data: bytes, at_most: int = MAX_DEPTH) -> int:
    """Levels of arrays and objects in JSON text; `at_most` + 1 stands for any more.

    Neither recursion nor a loop over brackets: each round takes away the innermost pairs. Text
    that ends too early counts as it stands.
    """
    # Without what is escaped, strings end at the next quote.
    plain = data.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = _STRING.sub(b"", plain).translate(_SQUARE, _NO_BRACKET)
    for level in range(at_most + 1):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return min(level + brackets.count(b"["), at_most + 1)
        brackets = outer
    return at_most + 1


def too_deep(data: bytes, limit: int) -> bool:
    """Whether JSON text has more levels than the limit; most text is cleared by counting."""
    return data.count(b"[") + data.count(b"{") > limit and depth(data, limit) > limit


def without_lone_surrogates(data: bytes) -> bytes:
    """JSON text with `\\u0000` for each lone surrogate, which is refused just as well.

    A decoder stops at one with words about its input, and never says where in the value it is.
    """
    if b"\\u" not in data or _SURROGATE.search(data) is None or b"\0" in data:
        return data
    # An escaped backslash begins no escape; no JSON text holds the byte that stands for it.
    masked = data.replace(rb"\\", b"\0\0")
    return _LONE_SURROGATE.sub(rb"\\u0000", masked).replace(b"\0\0", rb"\\")


def parse(data: bytes, max_keys: int | None = None) -> tuple[Any, bytes]:
    """The value of JSON text from outside, and its canonical bytes.

    Raises NotJson, or NotCanonical with the path at fault. -0.0 is read as 0.0. Whatever
    hides from the cheap scans over the bytes is only ever sent to the full walk, never let
    through.
    """
    if too_deep(data, MAX_DEPTH):
        raise NotCanonical((), f"it is nested deeper than {MAX_DEPTH} levels")
    data = without_lone_surrogates(data)
    try:
        value = _decoder.decode(data)
    except msgspec.ValidationError as error:
        # Without a type to hold it against, only numbers can be valid JSON and no value.
        raise NotCanonical((), "it holds a number past what a double can hold") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson((), f"it is not JSON: {error}") from error
    canonical = _encoder.encode(value)
    if b"-0.0" in canonical:
        value = _without_negative_zero(value)
        canonical = _encoder.encode(value)
    if data.count(b'"') != canonical.count(b'"') or b"\\u0022" in data:
        _refuse_duplicate_keys(data)
    if _LONG_NUMBER in canonical.translate(_DIGITS) or b"\\u0000" in canonical:
        check(value)
    if max_keys is not None and too_many_keys(canonical, max_keys):
        raise NotCanonical((), f"it has more than {max_keys} object keys")
    return value, canonical


def too_many_keys(data: bytes, limit: int) -> bool:
    """Whether canonical bytes hold more object keys, on all levels, than the limit."""
    return data.count(b'":') > limit and _keys(_decoder.decode(data)) > limit


def check(value: Any, path: Path = ()) -> None:
    """Raises NotCanonical, with the path at fault, if no document may hold the value."""
    if len(path) > MAX_DEPTH or (len(path) == MAX_DEPTH and isinstance(value, (dict, list))):
        raise NotCanonical((), f"it is nested deeper than {MAX_DEPTH} levels")
    match value:
        case bool() | None:
            return
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                raise NotCanonical(path, "integers must lie within ±(2^53 - 1)")
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                raise NotCanonical(path, "NaN and infinity are not JSON")
            if value == 0 and str(value).startswith("-"):
                raise NotCanonical(path, "-0.0 is not canonical")
        case str():
            _check_text(value, path)
        case list() | tuple():
            for index, item in enumerate(value):
                check(item, (*path, str(index)))
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise NotCanonical(path, "object keys must be strings")
                _check_text(key, path)
                check(item, (*path, key))
        case _:
            raise NotCanonical(path, f"{type(value).__name__} is not a JSON type")


def _check_text(text: str, path: Path) -> None:
    reason = "strings must not contain \\u0000 or lone surrogates"
    if "\0" in text:
        raise NotCanonical(path, reason)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise NotCanonical(path, reason) from error


def _keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    if isinstance(value, list):
        return sum(map(_keys, value))
    return 0


def _without_negative_zero(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_negative_zero(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_negative_zero(item) for item in value]
    return 0.0 if isinstance(value, float) and value == 0 else value


def _refuse_duplicate_keys(data: bytes) -> None:
    """A decoder keeps the last of two equal keys in silence; the other would be lost."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            ((twice, _),) = Counter(key for key, _ in items).most_common(1)
            raise NotCanonical((), f"the object key {twice!r} stands twice")
        return result

    json.loads(data, object_pairs_hook=pairs)
