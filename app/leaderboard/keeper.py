"""Keeps the boards quick to read: settles what changed, counts, lets Redis follow, prunes.

Nothing that it does changes an answer. What has to be done stands in PostgreSQL, so that a commit
need only wake it, a crash loses nothing, and any process can take the next step.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

import structlog

from app.clock import Clock
from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.documents.model import Committed
from app.errors import SynclineError
from app.leaderboard import store
from app.leaderboard.redis_boards import RedisBoards
from app.leaderboard.types import RebuiltBoard
from app.leaderboard.weeks import ALL_TIME, is_outdated, week_board

log = structlog.get_logger()

PACE_S = 0.25
"""Between two rounds while there is work: what changes meanwhile is settled at once."""
IDLE_S = 2.0
"""Between two rounds without: other processes may have left something."""
PORTION = 500
"""Rows that are settled, and held for it, at a time."""
PRUNE_PORTION = 5_000
FOLLOW_EVERY_S = 1.0
COMPARE_EVERY_S = 60.0
TEND_EVERY_S = 600.0
COUNT_AGAIN_MS = 3_600_000
"""After so long a board is counted anew, whatever happened to its rows."""
BUILD_AGAIN_MS = 86_400_000
"""After so long a board is built anew in Redis, whatever happened to it there."""
FEW_MOVES = 5_000
"""Settled changes that do not make it worth while to divide a board anew."""
BUILD_TRIES = 240
"""Of who asked for a building: a minute."""
BUILD_REST = 10
"""Building may take one part in so many of the time, should Redis lose a board ever again."""


class Keeper:
    """One in each process; any number of them work side by side."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        cache: RedisBoards | None,
        *,
        kept_weeks: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._cache = cache
        self._kept_weeks = kept_weeks
        self._monotonic = monotonic
        self._woken = asyncio.Event()
        self._due: dict[str, float] = {}
        """By kind of work, when it is due again."""
        self._unlike: dict[str, int | None] = {}
        """By board, the tag of Redis where it was another than PostgreSQL's at the last look."""

    def note(self, committed: Committed) -> None:
        """Listens to commits; the rows themselves say what is to be done."""
        if committed.standings:
            self._woken.set()

    def cached_boards(self) -> tuple[str, str]:
        """The boards that Redis follows: of all time and of this week."""
        return ALL_TIME, week_board(self._clock())

    async def run(self) -> None:
        while True:
            busy = False
            try:
                busy = await self.round()
            except Exception as error:
                if isinstance(error, SynclineError) or is_database_trouble(error):
                    log.warning("boards wait for the database", error=repr(error))
                else:
                    log.exception("keeping the boards failed, and is tried again")
            await asyncio.sleep(PACE_S)
            if not busy:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), IDLE_S)

    async def round(self) -> bool:
        """Does what is to be done now; whether there was anything to settle."""
        self._woken.clear()
        if self._cache is not None and not self._cache.answers:
            await self._cache.look()
        unsettled = await self._database.read(store.unsettled_boards)
        for board in unsettled:
            await self._settle(board)
        if self._is_due("follow", FOLLOW_EVERY_S):
            await self._follow()
        if self._is_due("tend", TEND_EVERY_S):
            await self._tend()
        return bool(unsettled)

    async def rebuild(self) -> list[RebuiltBoard]:
        """Settles and counts every board anew, and builds anew those that Redis follows."""
        rebuilt = []
        for board in await self._database.read(store.list_boards):
            await self._settle(board)
            async with self._database.connection() as connection:
                counted = await store.count_again(connection, board, self._clock())
            cached = board in self.cached_boards() and await self._build_in_turn(board)
            rebuilt.append(RebuiltBoard(board, counted.counts.members, cached))
        return sorted(rebuilt, key=lambda one: one.board)

    # --- PostgreSQL -------------------------------------------------------------------------

    async def _settle(self, board: str) -> None:
        """Settles all that changed on a board, in portions, unless another process is at it."""
        cache = self._cache if board in self.cached_boards() else None
        settled_any = False
        while cache is None or not await cache.is_building(board):
            async with self._database.connection() as connection:
                settled = await store.settle(connection, board, PORTION, self._clock())
            if settled is None:
                break
            settled_any = True
            if cache is not None:
                await cache.push(board, *settled)
            if len(settled.changes) < PORTION:
                break
        if settled_any:
            await self._count_if_due(board)

    async def _count_if_due(self, board: str) -> None:
        """Divides a board anew once much has moved, so that no part of it grows long to count."""
        async with self._database.connection() as connection:
            found = await store.read_board(connection, board)
            if found is None:
                return
            old = self._clock() - found.counted_at_ms > COUNT_AGAIN_MS
            if old or found.moved > max(FEW_MOVES, found.counts.members // 4):
                await store.count_again(connection, board, self._clock())

    async def _tend(self) -> None:
        """Counts what was not counted for long, and deletes the weeks that are not kept."""
        for board in await self._database.read(store.list_boards):
            if is_outdated(board, self._clock(), self._kept_weeks):
                await self._prune(board)
            else:
                await self._count_if_due(board)

    async def _prune(self, board: str) -> None:
        while True:
            async with self._database.connection() as connection:
                if await store.prune(connection, board, PRUNE_PORTION) < PRUNE_PORTION:
                    return

    # --- Redis ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Sees that Redis has followed; builds a board that it lacks, or has wrong."""
        if self._cache is None or not self._cache.answers:
            return
        for board in self.cached_boards():
            if await self._has_to_be_built(self._cache, board) and self._may_build(board):
                begun = self._monotonic()
                await self._build(board)
                took_s = self._monotonic() - begun
                self._due[f"build {board}"] = self._monotonic() + BUILD_REST * took_s

    def _may_build(self, board: str) -> bool:
        return self._monotonic() >= self._due.get(f"build {board}", 0.0)

    async def _has_to_be_built(self, cache: RedisBoards, board: str) -> bool:
        tag = await self._database.read(lambda connection: store.read_tag(connection, board))
        if tag is None:
            return False
        redis_tag = await cache.tag(board)
        if not cache.answers or redis_tag == tag:
            self._unlike.pop(board, None)
            return cache.answers and await self._is_wrong(cache, board)
        # The next tag may be on its way to Redis; if it was last time, too, it was lost.
        lost = self._unlike.get(board) == redis_tag
        self._unlike[board] = redis_tag
        return redis_tag is None or lost

    async def _is_wrong(self, cache: RedisBoards, board: str) -> bool:
        """Whether somebody changed the board in Redis, as far as its counts tell."""
        if not self._is_due(f"compare {board}", COMPARE_EVERY_S):
            return False
        found = await self._database.read(lambda connection: store.read_board(connection, board))
        if found is None:
            return False
        if not await cache.is_as_counted(board, found.tag, found.counts):
            await cache.drop(board, "its counts differ")
            return True
        return self._clock() - await cache.built_at_ms(board) > BUILD_AGAIN_MS

    async def _build_in_turn(self, board: str) -> bool:
        """Builds a board once no other process does; False where that failed."""
        for _ in range(BUILD_TRIES):
            if self._cache is None or not self._cache.answers:
                return False
            if not await self._cache.is_building(board) and await self._build(board):
                return True
            await asyncio.sleep(PACE_S)
        return False

    async def _build(self, board: str) -> bool:
        """Builds a board in Redis from one moment of PostgreSQL; False where that failed.

        Nobody settles the board meanwhile, so that its tag stays. If somebody does, who could not
        know of the building, then Redis is at another tag, is not asked, and is built again.
        """
        cache = self._cache
        name = None if cache is None else await cache.begin(board)
        if cache is None or name is None:
            return False
        done = False
        try:
            async with (
                self._database.connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                found = await store.read_board(connection, board)
                async with aclosing(store.copy_settled(connection, board)) as portions:
                    filled = await cache.fill(board, name, portions)
            if found is None or filled is None:
                return False
            if filled == found.counts.members:
                lives = board == ALL_TIME
                done = await cache.finish(board, name, found.tag, self._clock(), lives=lives)
                log.info("a board was built in redis", board=board, accounts=filled, done=done)
                return done
            log.warning("a board was counted wrong, and is counted again", board=board)
            async with self._database.connection() as connection:
                await store.count_again(connection, board, self._clock())
            return False
        finally:
            if not done:
                await cache.give_up(board, name)

    def _is_due(self, work: str, every_s: float) -> bool:
        now = self._monotonic()
        if now < self._due.get(work, 0.0):
            return False
        self._due[work] = now + every_s
        return True
