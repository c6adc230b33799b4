"""Reading the tables of another PostgreSQL: every row once, in bounded memory, nothing written."""

import asyncio
import secrets
from urllib.parse import urlsplit, urlunsplit

import pytest

from app.operations.importing import table_store
from app.operations.importing.rows import Row
from app.operations.importing.source import Chunk, SourceError, Unreadable
from app.operations.importing.table_store import TableSource
from tests.importing.world import World, mapping

PLAIN = mapping(
    """
    source = "plain"
    table = "old"
    key = ["id"]
    account = "{id}"
    documents = [{ key = "plain", value = "data" }]
    """
)


async def chunks_of(source: TableSource, after: str | None = None) -> list[Chunk]:
    await source.open([])
    try:
        return [chunk async for chunk in source.chunks(after)]
    finally:
        await source.close()


def read(world: World, table: str, *key: str, limit: int = 1_000_000) -> list[Chunk]:
    return asyncio.run(chunks_of(TableSource(world.old, table, key, limit)))


def positions(chunks: list[Chunk]) -> list[str]:
    return [row.position for chunk in chunks for row in chunk.rows]


@pytest.mark.parametrize(
    ("type", "values"),
    [
        ("uuid", "gen_random_uuid()"),
        ("bigint", "(n - 7) * 1000000000000000"),
        ("text", "chr(64 + n % 20) || case when n % 3 = 0 then 'ä' else '_' end || n"),
        ("varchar(40)", "'it''s \"' || n"),
        ("char(6)", "'c' || n"),
        ("timestamptz", "timestamptz '2024-01-01 00:00:00.123456+05' + n * interval '7 us'"),
        ("numeric", "n / 3.0"),
        ("float8", "n / 3.0::float8"),
    ],
)
def test_every_kind_of_key_is_walked_once(
    both_versions: World, monkeypatch: pytest.MonkeyPatch, type: str, values: str
) -> None:
    """The last key of a page goes out as text and comes back as it was, or rows are lost."""
    world = both_versions
    world.sql(f"create table old (id {type} primary key, n integer); select 1")
    world.sql(f"insert into old select {values}, n from generate_series(1, 40) n; select 1")
    monkeypatch.setattr(table_store, "CHUNK_ROWS", 7)
    chunks = read(world, "old", "id")
    assert len(chunks) == 6
    assert len(set(positions(chunks))) == 40
    for number, chunk in enumerate(chunks):
        source = TableSource(world.old, "old", ["id"], 1_000_000)
        behind = asyncio.run(chunks_of(source, chunk.end))
        assert positions(behind) == positions(chunks[number + 1 :])


def test_a_key_of_several_columns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is that of all of them together, also where names need quotes."""
    world.sql(
        """
        create table old ("User Id" text, thread integer, "a""b" text,
                          primary key ("User Id", thread, "a""b"));
        insert into old select 'u' || n % 3, n % 5, 's' || n from generate_series(1, 60) n;
        """
    )
    monkeypatch.setattr(table_store, "CHUNK_ROWS", 4)
    chunks = read(world, "old", "User Id", "thread", 'a"b')
    assert len(set(positions(chunks))) == 60


def test_pages_are_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred rows of megabytes would not fit."""
    world.sql("create table old (id integer primary key, data text); select 1")
    world.sql("insert into old select n, repeat('x', 1000) from generate_series(1, 20) n; select 1")
    monkeypatch.setattr(table_store, "CHUNK_BYTES", 3_000)
    chunks = read(world, "old", "id")
    assert max(len(chunk.rows) for chunk in chunks) == 3
    assert len(positions(chunks)) == 20


def test_a_row_that_is_too_large_is_told_and_passed(world: World) -> None:
    """Only its beginning comes over the wire."""
    world.sql("create table old (id integer primary key, data text); select 1")
    world.sql("insert into old values (1, 'a'), (2, repeat('x', 5000)), (3, 'c'); select 1")
    (chunk,) = read(world, "old", "id", limit=4_000)
    kinds = [type(row) for row in chunk.rows]
    assert kinds == [Row, Unreadable, Row]
    told = chunk.rows[1]
    assert isinstance(told, Unreadable)
    assert (told.position, told.reason, len(told.excerpt)) == ("id 2", "row-too-large", 2_000)


@pytest.mark.parametrize("rows", ["(1, 'a'), (1, 'b')", "(null, 'a'), (1, 'b')"])
def test_a_key_that_tells_no_rows_apart_is_refused(world: World, rows: str) -> None:
    """Rows with the same key fall between two pages, in silence."""
    world.sql(f"create table old (id integer, data text); insert into old values {rows}; select 1")
    with pytest.raises(SourceError, match="null or equal in some rows"):
        read(world, "old", "id")


def test_a_view_will_do(world: World) -> None:
    """It has no constraints, so its rows are looked at once."""
    world.sql(
        """
        create table people (id integer primary key); create table things (person integer, n text);
        insert into people values (1), (2); insert into things values (1, 'x');
        create view old as select id, n as data from people left join things on person = id;
        """
    )
    assert world.bring_in(PLAIN).complete
    assert world.documents("1") == {"plain": "x"}
    assert world.documents("2") == {}


def test_values_keep_their_own_text(world: World) -> None:
    """What jsonb holds is not bent on the way: digits, order, depth, null."""
    world.sql(
        """
        create table old (id bigint primary key, data json);
        insert into old values (9007199254740993, '{"b": 1.50, "a": [1e2, null, "ä\\u0041"]}'),
            (2, '{"a": 1, "a": 2}'), (3, '9007199254740993'), (4, '"\\ud800"'), (5, 'null'),
            (6, '{"NaN": "NaN"}');
        """
    )
    done = world.bring_in(PLAIN)
    assert world.documents("9007199254740993") == {"plain": {"a": [100.0, None, "äA"], "b": 1.5}}
    assert done.codes == ["unreadable"] * 3
    assert world.documents("5") == {}
    assert world.documents("6") == {"plain": {"NaN": "NaN"}}


def test_what_cannot_be_read_is_said_without_the_password(world: World) -> None:
    """The message goes to a terminal, and into logs."""
    parts = urlsplit(world.old)
    for broken in (
        world.old.replace("/test_", "/none_"),
        urlunsplit(parts._replace(netloc=f"nobody_{secrets.token_hex(3)}:hunter2@")),
    ):
        with pytest.raises(SourceError, match="cannot be read") as caught:
            read(World(broken, world.new, world.folder), "old", "id")
        assert "hunter2" not in str(caught.value)
        assert parts.password is not None
        assert parts.password not in str(caught.value)
    with pytest.raises(SourceError, match="cannot be read"):
        read(world, "no_such_table", "id")


def test_the_old_database_is_only_read(world: World) -> None:
    """It is the one that people still use."""

    async def write() -> None:
        source = TableSource(world.old, "old", ["id"], 1_000)
        await source.open([])
        try:
            connection = await source._connected()
            await connection.execute("delete from old")
        finally:
            await source.close()

    world.sql("create table old (id integer primary key); select 1")
    with pytest.raises(Exception, match="read-only"):
        asyncio.run(write())
