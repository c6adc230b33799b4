"""Boards in Redis: sorted sets that follow what PostgreSQL has settled, from tag to tag.

Of each board there is a set of all settled scores, and a hash that names the set and the tag up to
which it has followed. Whoever asks names the tag that PostgreSQL has; a set that has followed to
another one (it was restarted with old data, an update was lost, the database was restored) is not
asked. Nothing here raises: without an answer, PostgreSQL has one.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.leaderboard import redis_scripts
from app.leaderboard.ranking import Change, Counts, Entry

log = structlog.get_logger()
T = TypeVar("T")

TIMEOUT_S = 0.5
CONNECTIONS = 32
EXACT = 2**53 - 1
"""Scores in Redis are doubles: a board with a greater one stays in PostgreSQL alone."""
BUILD_LOCK_MS = 30_000
"""How long others wait for a process that builds a board and says nothing."""
UNFINISHED_MS = 600_000
"""How long a set lives whose building was never finished."""
BOARD_LIVES_MS = 21 * 86_400_000
"""How long the board of a week lives on, if nobody builds it again."""
FOLLOWED, AT_ANOTHER_TAG = 1, 0
PUSH_TRIES = 4
PUSH_PAUSE_S = 0.1
"""Another process may have settled before this one, and push after it."""

FAILURES = (RedisError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a set, best first, and how many members the whole has."""

    entries: list[Entry]
    members: int


class RedisBoards:
    """The boards of one deployment in Redis; `namespace` keeps several on one server apart."""

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.namespace = ""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            encoding_errors="replace",
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._window = self._redis.register_script(redis_scripts.WINDOW)
        self._above = self._redis.register_script(redis_scripts.ABOVE)
        self._push = self._redis.register_script(redis_scripts.PUSH)
        self._compare = self._redis.register_script(redis_scripts.COMPARE)
        self._switch = self._redis.register_script(redis_scripts.SWITCH)
        self._unlock = self._redis.register_script(redis_scripts.UNLOCK)
        self._monotonic = monotonic
        self.answers = True
        """Whether it answered when it was last asked; until it is found to, nobody waits for it."""

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def look(self) -> bool:
        """Asks whether it answers, also where it did not before. Until it does, nobody else waits
        for it."""
        try:
            await self._redis.ping()
        except FAILURES as error:
            self._fail(error)
            return False
        if not self.answers:
            log.info("redis answers again")
        self.answers = True
        return True

    async def window(
        self, board: str, tag: int, *, first: int = 0, account: str = "", reach: int = 0
    ) -> Window | None:
        """The first entries of a board, or those that reach so far around an account.

        None where Redis cannot say; no entries where the account is not on the board.
        """
        arguments = (tag, first, account, reach)
        found = await self._ask(
            board, lambda: self._window(keys=[self._meta(board)], args=arguments)
        )
        if not found:
            return None
        members, pairs = found
        try:
            entries = list(zip(pairs[::2], map(int, pairs[1::2]), strict=True))
        except ValueError:
            await self.drop(board, "a score is no whole number")
            return None
        if any("\0" in account for account, _ in entries):
            await self.drop(board, "there is an account that cannot be")
            return None
        return Window(entries, members)

    async def above(self, board: str, tag: int, scores: Sequence[int]) -> list[int] | None:
        """How many settled scores are greater than each of these."""
        arguments = (tag, *scores)
        found: list[int] | None = await self._ask(
            board, lambda: self._above(keys=[self._meta(board)], args=arguments)
        )
        return found if found or not scores else None

    async def push(self, board: str, old_tag: int, new_tag: int, changes: Sequence[Change]) -> bool:
        """Lets the set follow from one tag to the next; False where it was not at the old one."""
        removed = [one.account for one in changes if one.present is None]
        set_to = [(one.present, one.account) for one in changes if one.present is not None]
        if any(score > EXACT for score, _ in set_to):
            await self.drop(board, "a score is too large for it")
            return False
        arguments: list[str | int] = [old_tag, new_tag, len(removed), *removed]
        arguments += chain.from_iterable(set_to)
        for attempt in range(PUSH_TRIES):
            if attempt > 0:
                await asyncio.sleep(PUSH_PAUSE_S)
            done = await self._ask(
                board, lambda: self._push(keys=[self._meta(board)], args=arguments)
            )
            if done != AT_ANOTHER_TAG:
                return done == FOLLOWED
        return False

    async def tag(self, board: str) -> int | None:
        """The tag up to which a board has followed; None where there is no such board."""
        return await self._number(board, "tag")

    async def built_at_ms(self, board: str) -> int:
        """When a board was built last; 0 where it was not."""
        return await self._number(board, "built_at_ms") or 0

    async def _number(self, board: str, field: str) -> int | None:
        found = await self._ask(board, lambda: self._redis.hget(self._meta(board), field))
        return int(found) if isinstance(found, str) and found.isdecimal() else None

    async def is_as_counted(self, board: str, tag: int, counts: Counts) -> bool:
        """Whether there are as many scores from each bound on; True where it is at another tag."""
        pairs = chain.from_iterable(zip(counts.bounds, counts.above, strict=True))
        arguments = (tag, counts.members, *pairs)
        found = await self._ask(
            board, lambda: self._compare(keys=[self._meta(board)], args=arguments)
        )
        return found != 0

    async def drop(self, board: str, why: str) -> None:
        """Forgets a board that is found to be wrong."""
        log.warning("redis had a board wrong, which is built anew", board=board, why=why)
        await self._ask(board, lambda: self._redis.delete(self._meta(board)))

    # --- building ---------------------------------------------------------------------------

    async def is_building(self, board: str) -> bool:
        """Whether some process builds the board; it must not be settled meanwhile."""
        return bool(await self._ask(board, lambda: self._redis.exists(self._lock(board))))

    async def begin(self, board: str) -> str | None:
        """Takes the lock of a board; the name of its new set, or None if another builds it."""
        name = secrets.token_hex(8)
        taken = await self._ask(
            board,
            lambda: self._redis.set(self._lock(board), name, nx=True, px=BUILD_LOCK_MS),
        )
        return name if taken else None

    async def fill(
        self, board: str, name: str, portions: AsyncIterator[Sequence[Entry]]
    ) -> int | None:
        """Fills a new set; how many are in it, or None if that failed."""
        filled = 0
        async for portion in portions:
            if any(score > EXACT for _, score in portion):
                return None
            scores: dict[Any, Any] = dict(portion)
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.zadd(self._set(board, name), scores)
            pipeline.pexpire(self._set(board, name), UNFINISHED_MS)
            pipeline.pexpire(self._lock(board), BUILD_LOCK_MS)
            if await self._ask(board, pipeline.execute) is None:
                return None
            filled += len(portion)
            # Packing a portion takes milliseconds; others have their turn between two of them.
            await asyncio.sleep(0.002)
        return filled

    async def finish(self, board: str, name: str, tag: int, now_ms: int, *, lives: bool) -> bool:
        """Puts the new set in the place of the old one, at once; False if the lock was lost."""
        lives_ms = 0 if lives else BOARD_LIVES_MS
        keys = [self._meta(board), self._lock(board), self._set(board, name)]
        done = await self._ask(
            board, lambda: self._switch(keys=keys, args=[name, tag, now_ms, lives_ms])
        )
        return done == 1

    async def give_up(self, board: str, name: str) -> None:
        """Lets go of a lock, and of what was built under it."""
        keys = [self._lock(board), self._set(board, name)]
        await self._ask(board, lambda: self._unlock(keys=keys, args=[name]))

    # --- asking -----------------------------------------------------------------------------

    async def _ask(self, board: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None where there is none. Who does not answer in time is not asked again."""
        if not self.answers:
            return None
        try:
            return await ask()
        except ResponseError as error:
            # The data is of another kind than it should be, or Redis refuses to serve.
            log.warning("redis refuses", board=board, error=repr(error))
            await self._forget(board)
        except FAILURES as error:
            self._fail(error)
        return None

    async def _forget(self, board: str) -> None:
        try:
            await self._redis.delete(self._meta(board))
        except FAILURES as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.answers:
            log.warning("redis does not answer: boards come from PostgreSQL", error=repr(error))
        self.answers = False

    def _meta(self, board: str) -> str:
        return f"syncline:{self.namespace}:{{{board}}}:board"

    def _lock(self, board: str) -> str:
        return f"syncline:{self.namespace}:{{{board}}}:building"

    def _set(self, board: str, name: str) -> str:
        return f"syncline:{self.namespace}:{{{board}}}:set:{name}"
