"""The SQL of the catalogue of levels, and of the dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
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
READ_ACCOUNT = """
select
    (select value::text from documents where account = $1 and key = 'profile') as profile,
    (select value::text from documents where account = $1 and key = 'player') as player,
    (
        select json_object_agg(thread, completed)::text from (
            select split_part(key, ':', 2) as thread, count(*) as completed
            from documents
            where account = $1 and key ~ '^lesson:[^:]+:.'
                  and (value -> 'is_completed')::text = 'true'
            group by 1
        ) threads
    ) as threads,
    (
        select json_agg(json_build_object(
            'id', id, 'completed_at', occurred_at_ms,
            'thread', payload -> 'thread', 'stitch', payload -> 'stitch',
            'points', payload -> 'points', 'blink_speed', payload -> 'blink_speed',
            'total_questions', payload -> 'total_questions',
            'correct_answers', payload -> 'correct_answers'
        ) order by occurred_at_ms desc, id desc)::text
        from (
            select id, occurred_at_ms, payload from events
            where account = $1 and type = 'session'
            order by occurred_at_ms desc, id desc limit $2
        ) last
    ) as sessions
"""


@dataclass(frozen=True, slots=True)
class AccountMoment:
    """What a dashboard is made of, as JSON; all of one moment. None: there is nothing of it."""

    profile: str | None
    player: str | None
    threads: str | None
    """Completed stitches by thread."""
    sessions: str | None
    """The last study sessions, newest first, without their results."""


async def read_account(connection: Any, account: str, sessions: int) -> AccountMoment:
    """One statement, so that it is of one moment and costs one round trip."""
    return AccountMoment(*await connection.fetchrow(READ_ACCOUNT, account, sessions))


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
