"""A row as the text of a JSON object: JSON lines have it so, and PostgreSQL is asked for it."""

import json
from collections import Counter
from typing import Any

import msgspec
from msgspec import Raw

from app.operations.importing.rows import Reason, Row
from app.operations.importing.source import EXCERPT_BYTES, Unreadable
from merge_rules.canonical import without_lone_surrogates

_decoder = msgspec.json.Decoder(dict[str, Raw])


def json_row(position: str, text: bytes) -> Row | Unreadable:
    """The row; its columns keep their own text, so that nothing that they hold is bent."""

    def unreadable(reason: Reason, detail: str) -> Unreadable:
        return Unreadable(position, reason, detail, text[:EXCERPT_BYTES])

    try:
        text.decode()
    except UnicodeDecodeError as error:
        return unreadable(Reason.INVALID_UTF8, f"{error}.")
    legible = without_lone_surrogates(text)
    try:
        columns = _decoder.decode(legible)
        twice = None if _stands_once(legible, columns) else _twice(legible)
    except RecursionError:
        return unreadable(Reason.MALFORMED_ROW, "It is nested too deep.")
    except (msgspec.DecodeError, ValueError) as error:
        return unreadable(Reason.MALFORMED_ROW, f"It is no JSON object: {error}.")
    if twice is not None:
        return unreadable(Reason.MALFORMED_ROW, f"Column {twice!r} stands twice.")
    return Row(position, columns)


def _stands_once(text: bytes, columns: dict[str, Raw]) -> bool:
    """Whether it is plain to see that no column is hidden behind another of its name: the text is
    as long as its columns make it."""
    size = sum(len(msgspec.json.encode(name)) + len(raw) + 1 for name, raw in columns.items())
    commas = max(0, len(columns) - 1)
    compact = 2 + size + commas
    return len(text) in (compact, compact + len(columns) + commas)


def _twice(text: bytes) -> str | None:
    """The name of a column that stands twice; a decoder keeps the last in silence."""
    found: dict[str, int] = {}

    def pairs(items: list[tuple[str, Any]]) -> None:
        # The outermost object is the last to be closed.
        found.clear()
        found.update(Counter(name for name, _ in items))

    json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str)
    return next((name for name, times in found.items() if times > 1), None)
