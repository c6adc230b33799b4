"""Forgetting what is old, a little at a time: ids, proposals, and what merging needs no more."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.clock import Clock
from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.documents import store
from app.documents.documents import Documents
from app.documents.model import Horizon
from app.documents.mutations import fold_mutation
from app.documents.submission import Submission
from app.errors import SynclineError

log = structlog.get_logger()

PRUNE_EVERY_S = 3600.0
FOLD_EVERY_S = 86_400.0
PORTION = 5_000
FOLD_PORTION = 2_000
"""Documents that one statement looks at: a scan of all would outlast its time."""
FOLD_SIDECAR_BYTES = 170
"""A sidecar below this is not worth folding: it is what three devices with two counters take."""
DAY_MS = 86_400_000


async def run(
    database: Database,
    documents: Documents,
    clock: Clock,
    *,
    mutation_days: int,
    fold_days: int,
) -> None:
    """Prunes mutation ids and proposals every hour, and folds documents every day.

    Several processes may do this at once: each row goes once.
    """
    await asyncio.gather(
        _repeat(PRUNE_EVERY_S, lambda: prune(database, clock() - mutation_days * DAY_MS)),
        _repeat(FOLD_EVERY_S, lambda: fold(database, documents, clock() - fold_days * DAY_MS)),
    )


async def _repeat(every_s: float, work: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            if is_trouble(error):
                log.warning("housekeeping waits for the database", error=repr(error))
            else:
                log.exception("housekeeping failed, and is tried again")
        await asyncio.sleep(every_s)


def is_trouble(error: Exception) -> bool:
    """Whether it passes by itself: the database is away, or the queue of writes is full."""
    return isinstance(error, SynclineError) or is_database_trouble(error)


async def prune(database: Database, before_ms: int) -> int:
    """Forgets what is older, in portions so that no lock is held long; how many rows went."""
    gone = 0
    while True:
        async with database.connection() as connection:
            portion = await store.prune(connection, before_ms, PORTION)
        gone += portion
        if portion < PORTION:
            return gone


async def fold(database: Database, documents: Documents, before_ms: int) -> int:
    """Folds documents with a large sidecar, by the one write path; how many there were."""
    after, seen = ("", ""), 0
    while True:
        async with database.connection() as connection:
            sizes = await store.read_sidecar_sizes(connection, after, FOLD_PORTION)
            portion = [id for id, size in sizes if size >= FOLD_SIDECAR_BYTES]
            alive = {
                account: await store.read_alive(connection, account, before_ms)
                for account in {account for account, _ in portion}
            }
        for account, key in portion:
            horizon = Horizon(before_ms, alive[account])
            await documents.push(Submission(account, [fold_mutation(key, horizon, before_ms)]))
        seen += len(portion)
        if len(sizes) < FOLD_PORTION:
            return seen
        after = sizes[-1][0]
