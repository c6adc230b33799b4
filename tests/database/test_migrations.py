"""The migrated database is the declared one, on every server, from any direction."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from app.database import migrate
from app.database.engine import Database
from app.database.schema import metadata
from tests.conftest import Cluster

REPOSITORY = Path(__file__).parents[2]
CONSTRAINTS = """
select conrelid::regclass::text as table, conname, pg_get_constraintdef(oid) as definition
from pg_constraint where connamespace = 'public'::regnamespace
  and conrelid::regclass::text <> 'alembic_version' order by 1, 2
"""
TABLES = """
select c.relname, c.reloptions, obj_description(c.oid) as comment, toast.reloptions
from pg_class c left join pg_class toast on toast.oid = c.reltoastrelid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
  and c.relname <> 'alembic_version' order by 1
"""
COLUMNS = """
select attrelid::regclass::text as table, attnum, attname, format_type(atttypid, atttypmod) as type,
       attnotnull, atthasdef, attstorage::text, col_description(attrelid, attnum) as comment
from pg_attribute join pg_class c on c.oid = attrelid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and attnum > 0
  and c.relname <> 'alembic_version' order by 1, attname
"""
INDEXES = """
select indexname, indexdef from pg_indexes
where schemaname = 'public' and tablename <> 'alembic_version' order by 1
"""


@pytest.fixture
def url(cluster: Cluster) -> str:
    """A migrated database."""
    return cluster.clone()


@asynccontextmanager
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, pool_size=2, statement_timeout_ms=10_000)
    try:
        yield opened
    finally:
        await opened.close()


async def catalog(url: str, *, columns: bool = True) -> dict[str, list[tuple[Any, ...]]]:
    """What PostgreSQL itself says of all tables."""
    connection = await asyncpg.connect(url)
    try:
        queries = {"constraints": CONSTRAINTS, "tables": TABLES, "indexes": INDEXES}
        if columns:
            queries["columns"] = COLUMNS
        return {
            name: [tuple(row.values()) for row in await connection.fetch(sql)]
            for name, sql in queries.items()
        }
    finally:
        await connection.close()


async def run(opened: Database, work: Any) -> Any:
    async with opened.engine.begin() as connection:
        return await connection.run_sync(work)


async def clear(opened: Database) -> None:
    """Takes everything away, as in a database that was just created."""
    await run(opened, lambda connection: metadata.drop_all(connection))
    await run(opened, lambda connection: connection.execute(text("drop table alembic_version")))


def downgrade(connection: Connection) -> None:
    config = migrate.configuration()
    config.attributes["connection"] = connection
    command.downgrade(config, "base")


async def test_alembic_finds_no_difference(url: str) -> None:
    """Whoever changes the schema and forgets the migration, or the reverse, is told."""

    def compare(connection: Connection) -> Any:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with database(url) as opened:
        assert await run(opened, compare) == []


async def test_the_catalogs_are_equal(url: str) -> None:
    """Alembic compares neither CHECK constraints nor storage parameters; PostgreSQL knows them.

    The declared schema is created beside the migrated one, and both are read back.
    """
    migrated = await catalog(url)
    async with database(url) as opened:
        await clear(opened)
        await run(opened, metadata.create_all)
    declared = await catalog(url)
    for name in migrated:
        # The order of columns is where a migration may well differ.
        assert _unordered(migrated[name], name) == _unordered(declared[name], name)
    tables = {row[0]: row for row in migrated["tables"]}
    assert tables["heads"][1] == ["fillfactor=50"]
    assert tables["documents"][3] == ["autovacuum_vacuum_scale_factor=0.05"]
    assert all(row[2] for row in tables.values()), "every table says what it is for"


def _unordered(rows: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    return [row[:1] + row[2:] for row in rows] if name == "columns" else rows


async def test_there_is_no_index_on_seq(url: str) -> None:
    """Each write changes seq: an index on it would end heap-only updates for every document."""
    found = await catalog(url)
    indexes = [
        definition for _, definition in found["indexes"] if " public.documents " in definition
    ]
    assert len(indexes) == 1
    assert "(account, key)" in indexes[0]


async def test_two_upgrades_at_once_end_well(url: str) -> None:
    """Several processes start on an empty database at the same moment."""
    before = await catalog(url)
    async with database(url) as opened:
        await clear(opened)
        upgrades = [await _upgrade(url) for _ in range(2)]
        said = await asyncio.gather(*(upgrade.communicate() for upgrade in upgrades))
        assert [upgrade.returncode for upgrade in upgrades] == [0, 0], said
        async with opened.connection() as connection:
            assert await migrate.present_revision(connection) == migrate.newest_revision()
            assert await connection.fetchval("select count(*) from alembic_version") == 1
    assert await catalog(url) == before


async def _upgrade(url: str) -> asyncio.subprocess.Process:
    """A process of its own, as in a deployment: Alembic serves one upgrade in a process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "app.cli",
        "migrate",
        env={**os.environ, "SYNCLINE_DATABASE_URL": url},
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_down_to_nothing_and_up_again(url: str) -> None:
    """A downgrade leaves nothing behind that would stand in the way of the next upgrade."""
    before = await catalog(url)
    async with database(url) as opened:
        await run(opened, downgrade)
        empty = await catalog(url)
        assert all(rows == [] for rows in empty.values()), empty
        async with opened.connection() as connection:
            assert await migrate.present_revision(connection) is None
        await migrate.migrate(opened)
    assert await catalog(url) == before


async def test_upgrading_again_changes_nothing(url: str) -> None:
    """`syncline migrate` may be run at every deployment."""
    before = await catalog(url)
    async with database(url) as opened:
        await migrate.migrate(opened)
    assert await catalog(url) == before


GOOD: dict[str, dict[str, Any]] = {
    "heads": {"account": "new", "seq": 0},
    "documents": {
        "account": "a",
        "key": "k",
        "version": 1,
        "seq": 1,
        "epoch": 0,
        "epoch_version": 0,
        "value": "1",
        "sidecar": b"",
        "rule": "r",
        "updated_at_ms": 1,
    },
    "revisions": {
        "account": "a",
        "key": "k",
        "slot": 1,
        "version": 1,
        "epoch": 0,
        "value": "1",
        "sidecar": b"",
        "rule": "r",
        "outcome": "applied",
        "updated_at_ms": 1,
    },
    "levels": {"level": "l", "version": 1, "min_correct": 0, "xp_reward": 0, "repeat": "every"},
}


async def insert(connection: Any, table: str, row: dict[str, Any]) -> None:
    values = ", ".join(f"${index + 1}" for index in range(len(row)))
    statement = f"insert into {table} ({', '.join(row)}) values ({values})"
    async with connection.transaction():
        await connection.execute(statement, *row.values())


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("heads", {"seq": -1}),
        ("heads", {"account": ""}),
        ("heads", {"account": "x" * 129}),
        ("heads", {"account": "a"}),
        ("documents", {"key": ""}),
        ("documents", {"key": "has space"}),
        ("documents", {"key": "k\n"}),
        ("documents", {"key": "k/l"}),
        ("documents", {"key": "ключ"}),
        ("documents", {"key": "k" * 129}),
        ("documents", {"version": 0}),
        ("documents", {"seq": 0}),
        ("documents", {"epoch": -1}),
        ("documents", {"epoch_version": 2}),
        ("documents", {"epoch_version": -1}),
        ("documents", {"account": "headless"}),
        ("documents", {"rule": None}),
        ("documents", {"sidecar": None}),
        ("documents", {"value": "{"}),
        ("revisions", {"version": 0}),
        ("revisions", {"slot": -1}),
        ("revisions", {"outcome": "unchanged"}),
        ("revisions", {"outcome": None}),
        ("levels", {"version": 2}),
        ("levels", {"min_correct": -1}),
        ("levels", {"xp_reward": -1}),
        ("levels", {"repeat": "sometimes"}),
    ],
)
async def test_what_must_never_be_is_refused(url: str, table: str, change: dict[str, Any]) -> None:
    """What must always hold is also a constraint: a bug in the service stops at the database."""
    connection = await asyncpg.connect(url)
    try:
        await insert(connection, "heads", {"account": "a", "seq": 1})
        await insert(connection, "catalogues", {"version": 1, "published_at_ms": 1})
        with pytest.raises((asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)):
            await insert(connection, table, {**GOOD[table], **change})
        await insert(connection, table, GOOD[table])
    finally:
        await connection.close()
