"""The servers that tests start for themselves."""

import asyncio
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from tests.conftest import start_cluster


def test_a_cluster_leaves_nothing_behind() -> None:
    """With the clones of a run it takes gigabytes: a day of tests filled the disk."""
    with contextmanager(start_cluster)("PostgreSQL of its own", None) as cluster:
        folder = Path(asyncio.run(_data_directory(cluster.url)))
        assert folder.exists()
    assert not folder.exists()


async def _data_directory(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("select current_setting('data_directory')"))
    finally:
        await connection.close()
