"""Rows of a table of another PostgreSQL, read in the order of its key.

Each row is asked for as one JSON object, which is what JSON lines hold, too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import msgspec

from app.database.engine import CONNECT_TIMEOUT_S, UNREACHABLE, plain_url
from app.database.retry import RETRIES, pause_before
from app.operations.importing.json_rows import json_row
from app.operations.importing.rows import Reason, Row
from app.operations.importing.source import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    EXCERPT_BYTES,
    Chunk,
    SourceError,
    Unreadable,
)

STATEMENT_TIMEOUT_S = 300.0
COUNTED_BELOW = 1_000_000
"""Rows up to which they are counted; beyond, the planner's estimate is good enough."""

COLUMNS = """
select attname::text as name, format_type(atttypid, atttypmod) as type
from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped
order by attnum
"""
HAS_UNIQUE_KEY = """
select exists (
    select from pg_index i
    where i.indrelid = $1::text::regclass and i.indisunique and i.indpred is null
      and i.indexprs is null and i.indisvalid
      and (select bool_and(a.attname = any($2::text[]) and a.attnotnull)
           from unnest(i.indkey[0:i.indnkeyatts - 1]) k (number)
           join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number)
)
"""
ESTIMATE = "select reltuples::bigint from pg_class where oid = $1::text::regclass"
_OF_THE_SOURCE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError)


class TableSource:
    """A table, or a view, of another PostgreSQL; it is only read."""

    unit = "rows"

    def __init__(self, url: str, table: str, key: Sequence[str], max_row_bytes: int) -> None:
        try:
            self._url = plain_url(url)
            self.name = f"{_place(self._url)} {table}"
        except ValueError as error:
            raise SourceError(f"the URL of the old database: {error}") from error
        if not key:
            raise SourceError(
                "the mapping has no `key`: columns that are unique together and never null"
            )
        self._table = ".".join(_quoted(part) for part in table.split("."))
        self._key = list(key)
        self._max = max_row_bytes
        self._connection: Any = None
        self._types: dict[str, str] = {}
        self.identity = ",".join(key)
        self.columns: Sequence[str] | None = None

    async def open(self, used: Sequence[str]) -> None:
        try:
            connection = await self._connected()
            rows = await connection.fetch(COLUMNS, self._table)
            self._types = {row["name"]: row["type"] for row in rows}
            missing = sorted({*used, *self._key} - self._types.keys())
            if missing:
                raise SourceError(f"{self.name} has no column {', '.join(missing)}")
            self.columns = list(self._types)
            await self._check_key(connection)
        except _OF_THE_SOURCE as error:
            raise self._failed(error) from error

    async def _check_key(self, connection: Any) -> None:
        """Rows that share a key, or have none, would be passed over in silence."""
        if await connection.fetchval(HAS_UNIQUE_KEY, self._table, self._key):
            return
        columns = ", ".join(map(_quoted, self._key))
        nulls = " or ".join(f"{_quoted(column)} is null" for column in self._key)
        bad = await connection.fetchval(
            f"select exists (select from {self._table} where {nulls}) or exists "  # noqa: S608
            f"(select from {self._table} group by {columns} having count(*) > 1)"
        )
        if bad:
            raise SourceError(
                f"{self.name}: the columns {columns} are null or equal in some rows; name others "
                "in the mapping's `key`, by which each row can be told from all others"
            )

    async def total(self) -> int:
        try:
            connection = await self._connected()
            estimate: int = await connection.fetchval(ESTIMATE, self._table)
            if estimate >= COUNTED_BELOW:
                return estimate
            count: int = await connection.fetchval(
                f"select count(*) from {self._table}"  # noqa: S608 - quoted names
            )
        except _OF_THE_SOURCE as error:
            raise self._failed(error) from error
        return count

    async def chunks(self, after: str | None) -> AsyncIterator[Chunk]:
        last = None if after is None else msgspec.json.decode(after, type=list[str])
        while rows := await self._page(last):
            last = [rows[-1][f"k{number}"] for number in range(len(self._key))]
            end = msgspec.json.encode(last).decode()
            yield Chunk([self._row(row) for row in rows], end, len(rows))

    async def _page(self, last: Sequence[str] | None) -> list[Any]:
        for attempt in range(RETRIES):
            try:
                connection = await self._connected()
                found: list[Any] = await connection.fetch(
                    self._select(first=last is None), self._max, *(last or ())
                )
            except UNREACHABLE as error:
                if attempt + 1 == RETRIES:
                    raise self._failed(error) from error
                await asyncio.sleep(pause_before(attempt))
            except _OF_THE_SOURCE as error:
                raise self._failed(error) from error
            else:
                return found
        raise AssertionError("every attempt returns or raises")

    def _select(self, *, first: bool) -> str:
        """The next rows, cut where they become too many bytes; of a row that is too large only
        its beginning."""
        columns = [_quoted(column) for column in self._key]
        keys = ", ".join(f"t.{column}::text as k{n}" for n, column in enumerate(columns))
        order = ", ".join(f"t.{column}" for column in columns)
        given = ", ".join(
            f"${number}::text::{self._types[column]}"
            for number, column in enumerate(self._key, start=2)
        )
        behind = "" if first else f"where ({order}) > ({given})"
        names = ", ".join(f"k{number}" for number in range(len(columns)))
        return f"""
            with page as materialized (
                select row_to_json(t)::text as row, row_number() over (order by {order}) as place,
                       {keys}
                from (select * from {self._table} t {behind} order by {order} limit {CHUNK_ROWS}) t
            ), sized as (
                select *, octet_length(row) as size,
                       sum(octet_length(row)) over (order by place) as so_far
                from page
            )
            select {names}, case when size > $1 then left(row, {EXCERPT_BYTES}) else row end as row,
                   size > $1 as too_large
            from sized where so_far - size < {CHUNK_BYTES} order by place
        """  # noqa: S608 - quoted names

    def _row(self, row: Any) -> Row | Unreadable:
        position = ", ".join(
            f"{column} {row[f'k{number}']}" for number, column in enumerate(self._key)
        )
        text = row["row"].encode(errors="replace")
        if row["too_large"]:
            detail = f"A row may have {self._max} bytes."
            return Unreadable(position, Reason.ROW_TOO_LARGE, detail, text)
        return json_row(position, text)

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                server_settings={
                    "application_name": "syncline import",
                    "default_transaction_read_only": "on",
                    # Times in ISO 8601 and UTC, and floats with all their digits.
                    "timezone": "UTC",
                    "datestyle": "ISO",
                    "extra_float_digits": "1",
                },
            )
        return self._connection

    def _failed(self, error: BaseException) -> SourceError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return SourceError(f"{self.name} cannot be read: {reason}")

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()


def _place(url: str) -> str:
    """Where a database is, without who asks; as asyncpg reads it, a socket's folder is a host."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    host = parts.hostname or options.get("host", ["localhost"])[0]
    port = parts.port or options.get("port", ["5432"])[0]
    return f"{host}:{port}{parts.path}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
