"""What asyncpg takes for an array, once it is told to look for lists."""

import asyncpg
import pytest
from asyncpg.protocol import protocol

from app.database import arrays
from app.database.engine import Database
from tests.conftest import Cluster


class _Counting(type):
    """Counts how often anybody asks for an instance."""

    asked = 0

    def __instancecheck__(cls, instance: object) -> bool:
        _Counting.asked += 1
        return isinstance(instance, list)


class _Counted(metaclass=_Counting):
    pass


async def test_asyncpg_asks_by_the_names_that_are_set(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else setting these would do nothing, and nobody would see it."""
    connection = await asyncpg.connect(cluster.clone())
    try:
        for name in arrays.ASKED_FOR:
            _Counting.asked = 0
            with monkeypatch.context() as patch:
                patch.setattr(protocol, name, _Counted)
                assert await connection.fetchval("select $1::text[]", ["a", "b"]) == ["a", "b"]
            assert _Counting.asked > 0, name
    finally:
        await connection.close()


async def test_whoever_opens_a_database_has_told_asyncpg(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in arrays.ASKED_FOR:
        monkeypatch.setattr(protocol, name, _Counted)
    database = Database(cluster.clone(), pool_size=1, statement_timeout_ms=5_000)
    try:
        _Counting.asked = 0
        asked = await database.read(lambda one: one.fetchval("select $1::text[]", ["a", "b"]))
        assert (asked, _Counting.asked) == (["a", "b"], 0)
    finally:
        await database.close()


async def test_lists_and_tuples_are_arrays_and_nothing_else(cluster: Cluster) -> None:
    arrays.only_lists_are_arrays()
    connection = await asyncpg.connect(cluster.clone())
    try:
        for given in (["a", None], ("a", None)):
            assert await connection.fetchval("select $1::text[]", given) == ["a", None]
        assert await connection.fetchval("select $1::bytea[]", [b"a"]) == [b"a"]
        assert await connection.fetchval("select $1::int[]", [[1, 2], [3, 4]]) == [[1, 2], [3, 4]]
        with pytest.raises(asyncpg.DataError, match="a sized iterable container expected"):
            await connection.fetchval("select $1::text[]", {"a"})
    finally:
        await connection.close()
