"""Many accounts at once, stored as the service itself would have stored them.

The service writes a few accounts over HTTP. Their rows, whatever columns they have, are then
copied under other names: so sidecars, rule fingerprints and rings are real, and no change of
the schema is forgotten here.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from shutil import disk_usage
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec

from app.database.schema import metadata
from bench.generators import FailedRun, fill
from bench.workloads import GROWTH_KEYS, GROWTH_VALUES

OPTIONS = {
    "shared_buffers": "512MB",
    "maintenance_work_mem": "1GB",
    # What is copied into a table that the same transaction emptied needs no log.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "autovacuum": "off",
}
BYTES_PER_DOCUMENT = 2_400
"""On disk, with its revision and all indexes: assumed before anything was measured."""
SPARE = 1.25
LOG_BYTES = 5 * 10**9
"""The log and the files by which indexes are sorted."""

DEVICES = ("5f0c2a9be1d34c77", "a81e6d40b2c94f13")
"""Devices of the accounts; the first writes everywhere."""
MERGED = 3
"""Of so many kinds of accounts the last has documents that two devices merged."""
TABLES = tuple(table.name for table in metadata.sorted_tables if "account" in table.columns)
ACCOUNTS_AT_ONCE = 100

COLUMNS = """
select attname::text from pg_attribute
where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''
order by attname <> 'account', attnum
"""
CONSTRAINTS = """
select conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'public'::regnamespace and conrelid::regclass::text = any($1)
  and contype in ('p', 'f') order by contype = 'p'
"""
INDEXES = """
select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
where indrelid::regclass::text = any($1) and not indisprimary
"""
SIZES = """
select relname::text, pg_table_size(oid), pg_indexes_size(oid) from pg_class
where relname = any($1) and relnamespace = 'public'::regnamespace
"""


class Template(msgspec.Struct, frozen=True):
    """The rows of one account: by table its columns, and its rows as COPY writes them."""

    name: bytes
    rows: dict[str, bytes]


class TableBytes(msgspec.Struct):
    """Bytes on disk for each document there is, whatever table they are in."""

    table: float
    indexes: float


def account_name(number: int) -> str:
    """A UUID, as accounts mostly are: in another order than that in which they came."""
    return str(UUID(bytes=hashlib.blake2b(number.to_bytes(8), digest_size=16).digest(), version=4))


def check_room(folder: Path, documents: int, bytes_per_document: float) -> None:
    """Raises FailedRun if the documents may not fit, before hours were spent on them."""
    needed = documents * bytes_per_document * SPARE + LOG_BYTES
    free = disk_usage(folder).free
    if needed > free:
        raise FailedRun(
            f"{documents:,} documents may take {needed / 1e9:.0f} GB, and {folder} has "
            f"{free / 1e9:.0f} GB free: name another folder by --folder, or fewer by --sizes"
        )


def make_templates(url: str, token: Callable[[str], str]) -> list[str]:
    """Has the service at an address write a few accounts; their names."""
    names = [f"template-{number}" for number in range(MERGED + 1)]
    for name in names:
        headers = {"Authorization": f"Bearer {token(name)}"}
        with httpx.Client(base_url=url, headers=headers, timeout=30.0) as client:
            for device in DEVICES if name == names[MERGED] else DEVICES[:1]:
                # The second device has not seen what the first wrote, so it merges.
                for key, value in zip(GROWTH_KEYS, GROWTH_VALUES, strict=True):
                    if device == DEVICES[0] or not key.startswith("lesson:"):
                        _write(client, key, device, fill(value, 0, 0))
    return names


def _write(client: httpx.Client, key: str, device: str, value: str) -> None:
    body = f'{{"base":0,"device":"{device}","value":{value}}}'
    answer = client.put(f"/v1/documents/{key}", content=body)
    outcome = answer.json().get("outcome")
    if outcome not in (("applied",) if device == DEVICES[0] else ("merged", "unchanged")):
        raise FailedRun(f"{key} could not be made: {answer.text}")


def read_templates(url: str, names: Iterable[str]) -> list[Template]:
    return asyncio.run(_with_connection(url, lambda one: _read_templates(one, names)))


async def _read_templates(connection: Any, names: Iterable[str]) -> list[Template]:
    found = []
    for name in names:
        rows = {}
        for table in TABLES:
            parts: list[bytes] = []

            async def keep(data: bytes, parts: list[bytes] = parts) -> None:
                parts.append(data)

            columns = ", ".join(await _columns(connection, table))
            await connection.copy_from_query(
                f"select {columns} from {table} where account = $1", name, output=keep
            )
            rows[table] = b"".join(parts)
        found.append(Template(name.encode(), rows))
    return found


def filled(templates: Sequence[Template]) -> list[str]:
    """The tables that have rows of these accounts."""
    return [table for table in TABLES if any(one.rows[table] for one in templates)]


async def _columns(connection: Any, table: str) -> list[str]:
    """The account first, so that it stands at the beginning of each line."""
    return [row[0] for row in await connection.fetch(COLUMNS, table)]


def fill_tables(
    url: str, templates: Sequence[Template], accounts: int, advance: Callable[[str, int], None]
) -> None:
    """Empties the tables and fills them, keys and indexes last, all in one transaction.

    `advance` is told what is being filled and how many more accounts are in it.
    """
    work = _fill_tables
    asyncio.run(_with_connection(url, lambda one: work(one, templates, accounts, advance)))


async def _fill_tables(
    connection: Any,
    templates: Sequence[Template],
    accounts: int,
    advance: Callable[[str, int], None],
) -> None:
    constraints = await connection.fetch(CONSTRAINTS, TABLES)
    indexes = await connection.fetch(INDEXES, TABLES)
    async with connection.transaction():
        for table, name, _ in constraints:
            await connection.execute(f"alter table {table} drop constraint {name}")
        for index, _ in indexes:
            await connection.execute(f"drop index {index}")
        await connection.execute(f"truncate {', '.join(TABLES)}")
        for table in filled(templates):
            await connection.copy_to_table(
                table,
                source=_rows(table, templates, accounts, advance),
                columns=await _columns(connection, table),
                freeze=True,
            )
        for table, name, definition in reversed(constraints):
            advance(f"{table}: {name}", 0)
            await connection.execute(f"alter table {table} add constraint {name} {definition}")
        for _, definition in indexes:
            await connection.execute(definition)
    await connection.execute("vacuum (analyze)")
    await connection.execute("checkpoint")


async def _rows(
    table: str,
    templates: Sequence[Template],
    accounts: int,
    advance: Callable[[str, int], None],
) -> AsyncIterator[bytes]:
    for start in range(0, accounts, ACCOUNTS_AT_ONCE):
        numbers = range(start, min(start + ACCOUNTS_AT_ONCE, accounts))
        yield b"".join(_renamed(table, templates, number) for number in numbers)
        advance(table, len(numbers))


def _renamed(table: str, templates: Sequence[Template], number: int) -> bytes:
    template = templates[number % len(templates)]
    return template.rows[table].replace(template.name, account_name(number).encode())


def sizes(url: str, documents: int) -> dict[str, TableBytes]:
    """By table, the bytes on disk for each document."""
    rows = asyncio.run(_with_connection(url, lambda one: one.fetch(SIZES, TABLES)))
    return {
        name: TableBytes(table / documents, indexes / documents) for name, table, indexes in rows
    }


async def _with_connection(url: str, work: Callable[[Any], Any]) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await work(connection)
    finally:
        await connection.close()
