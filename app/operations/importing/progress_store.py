"""How far imports have come, and the lock by which one at a time reads a source."""

from typing import Any

READ = "select position from imports where source = $1"
WRITE = """
insert into imports as i (source, position, done, updated_at_ms) values ($1, $2, $3, $4)
on conflict (source) do update set
    position = excluded.position, done = excluded.done, updated_at_ms = excluded.updated_at_ms
"""
LOCK = "select pg_try_advisory_lock(hashtextextended('syncline import ' || $1, 0))"


async def lock(connection: Any, source: str) -> bool:
    """Whether this connection holds the source from now on, until it is closed."""
    held: bool = await connection.fetchval(LOCK, source)
    return held


async def read(connection: Any, source: str) -> str | None:
    position: str | None = await connection.fetchval(READ, source)
    return position


async def write(connection: Any, source: str, position: str, done: int, now_ms: int) -> None:
    await connection.execute(WRITE, source, position, done, now_ms)
