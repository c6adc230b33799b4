"""The era of the database: a restore begins a new one, so that no cursor skips what it undid.

A cursor counts the changes of an account. After a restore the same numbers name other
changes, so cursors carry the era and an old one is refused. A restore shows itself: a dump
lands in another database, a base backup in another cluster or on another timeline. Each new
connection looks, since none outlives its database.
"""

import secrets
from typing import Any

import asyncpg

from app.clock import Clock

ERA_LOCK = 0x45524153
"""Key of the advisory lock under which an era begins: "ERAS"."""

CLUSTER = """
select (select system_identifier from pg_control_system())::text || '/' ||
       (select timeline_id from pg_control_checkpoint())::text
"""
DATABASE = "select oid::text from pg_database where datname = current_database()"
PRESENT = "select to_regclass('eras') is not null"
NEWEST_ERA = "select era from eras order by began_at_ms desc, era desc limit 1"
NEWEST = "select era, identity, began_at_ms from eras order by began_at_ms desc, era desc limit 1"
BEGIN_ERA = "insert into eras (era, identity, began_at_ms) values ($1, $2, $3)"


class Era:
    """The newest era that this process has met."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.newest = ""

    async def look(self, connection: Any) -> None:
        """To be called with each new connection; without a schema there is no era yet."""
        if await connection.fetchval(PRESENT):
            self.newest = await current_era(connection, self._clock())


async def current_era(connection: Any, now_ms: int, *, begin: bool = False) -> str:
    """The present era; begins one if the database is new, was restored, or `begin` is set."""
    identity = await _identity(connection)
    newest = await connection.fetchrow(NEWEST)
    if not begin and newest is not None and newest["identity"] == identity:
        return str(newest["era"])
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", ERA_LOCK)
        newest = await connection.fetchrow(NEWEST)
        if newest is not None and newest["identity"] == identity and not begin:
            return str(newest["era"])
        if newest is not None:
            # The newest is found by its time, whatever became of the clock meanwhile.
            now_ms = max(now_ms, newest["began_at_ms"] + 1)
        era = secrets.token_hex(4)
        await connection.execute(BEGIN_ERA, era, identity, now_ms)
        return era


async def _identity(connection: Any) -> str:
    database = await connection.fetchval(DATABASE)
    try:
        cluster = await connection.fetchval(CLUSTER)
    except asyncpg.InsufficientPrivilegeError:
        # Some managed servers hide it; then only a restore into a new database is seen.
        cluster = "unknown"
    return f"{cluster}/{database}"
