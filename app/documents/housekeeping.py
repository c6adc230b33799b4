"""Forgetting what is old, a little at a time."""

import asyncio

import structlog

from app.clock import Clock
from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.documents import store

log = structlog.get_logger()

EVERY_S = 3600.0
PORTION = 5_000
DAY_MS = 86_400_000


async def run(database: Database, clock: Clock, mutation_days: int) -> None:
    """Prunes mutation ids and proposals older than so many days, now and every hour.

    Several processes may do this at once: each row goes once.
    """
    while True:
        try:
            await prune(database, clock() - mutation_days * DAY_MS)
        except Exception as error:
            if not is_database_trouble(error):
                raise
            log.warning("pruning waits for the database", error=repr(error))
        await asyncio.sleep(EVERY_S)


async def prune(database: Database, before_ms: int) -> int:
    """Forgets what is older, in portions so that no lock is held long; how many rows went."""
    gone = 0
    while True:
        async with database.connection() as connection:
            portion = await store.prune(connection, before_ms, PORTION)
        gone += portion
        if portion < PORTION:
            return gone
