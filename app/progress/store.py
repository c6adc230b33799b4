"""The SQL of the catalogue of levels."""

from collections.abc import Sequence
from typing import Any

from app.progress.types import Catalogue, LevelEntry

NEWEST = "select version, published_at_ms from catalogues order by version desc limit 1"
READ_CATALOGUE = """
select c.version, c.published_at_ms, l.level, l.min_correct, l.xp_reward, l.repeat
from catalogues c left join levels l on l.version = c.version
where c.version = (select max(version) from catalogues)
"""
ADD_CATALOGUE = """
insert into catalogues (version, published_at_ms) values ($1, $2)
on conflict (version) do nothing returning version
"""
ADD_LEVELS = """
insert into levels (level, version, min_correct, xp_reward, repeat)
select level, $1, min_correct, xp_reward, repeat
from unnest($2::text[], $3::int[], $4::int[], $5::text[])
     w (level, min_correct, xp_reward, repeat)
"""
FORGET_LEVELS = "delete from levels where version <= $1"
FORGET_CATALOGUES = "delete from catalogues where version <= $1"


async def read_newest(connection: Any) -> tuple[int, int | None]:
    """Version and time of the newest catalogue; (0, None) where none was published."""
    row = await connection.fetchrow(NEWEST)
    return (0, None) if row is None else (row["version"], row["published_at_ms"])


async def read_catalogue(connection: Any) -> Catalogue:
    """The newest catalogue, of one moment; version 0 and empty where none was published."""
    rows = await connection.fetch(READ_CATALOGUE)
    if not rows:
        return Catalogue(0, None, [])
    levels = [
        LevelEntry(row["level"], row["min_correct"], row["xp_reward"], row["repeat"])
        for row in rows
        if row["level"] is not None
    ]
    levels.sort(key=lambda entry: entry.level)
    return Catalogue(rows[0]["version"], rows[0]["published_at_ms"], levels)


async def add_catalogue(
    connection: Any, version: int, now_ms: int, levels: Sequence[LevelEntry], kept: int
) -> bool:
    """Adds a catalogue, and forgets those before the last `kept`; False, with nothing done, if
    this version is there already.

    To be called within a transaction. Who adds the same version waits for it to end.
    """
    if await connection.fetchval(ADD_CATALOGUE, version, now_ms) is None:
        return False
    columns = (
        [entry.level for entry in levels],
        [entry.min_correct for entry in levels],
        [entry.xp_reward for entry in levels],
        [entry.repeat for entry in levels],
    )
    await connection.execute(ADD_LEVELS, version, *columns)
    await connection.execute(FORGET_LEVELS, version - kept)
    await connection.execute(FORGET_CATALOGUES, version - kept)
    return True
