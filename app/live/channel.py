"""A channel between the processes: PostgreSQL's notifications, or Redis where there is one.

Neither keeps a message for those who are away, so whoever comes back asks the database. Both
connect for as long as it takes, by themselves.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.live import store

log = structlog.get_logger()

NAME = "syncline_live"
LOOK_S = 3.0
"""How often a quiet connection is asked whether it lives, and how long it may take."""
OUTBOX = 1_000
"""Messages that wait for a connection; the oldest are lost first, which the sweep heals."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0


class Channel(Protocol):
    """`heard` gets each message, `gap` is called whenever some may have been missed: after each
    connection that was made."""

    up: bool

    async def run(self, heard: Callable[[str | bytes], None], gap: Callable[[], None]) -> None:
        """Until it is cancelled."""

    def publish(self, messages: Sequence[str]) -> None:
        """Sends them soon, if it can."""


class _Outbox:
    """What is to be said; the one task that owns the connection says it."""

    def __init__(self) -> None:
        self._messages: deque[str] = deque(maxlen=OUTBOX)
        self._wake = asyncio.Event()

    def put(self, messages: Sequence[str]) -> None:
        self._messages.extend(messages)
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    async def take(self, timeout_s: float) -> list[str]:
        """All that waits; nothing when the time is over, or somebody woke it."""
        if not self._messages:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return []
        taken = list(self._messages)
        self._messages.clear()
        return taken


class PostgresChannel:
    """LISTEN and NOTIFY on one connection, which no pooler of transactions may stand before."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outbox = _Outbox()
        self.up = False

    def publish(self, messages: Sequence[str]) -> None:
        if self.up:
            self._outbox.put(messages)

    async def run(self, heard: Callable[[str | bytes], None], gap: Callable[[], None]) -> None:
        pause = _Pause()
        while True:
            connection = None
            try:
                async with asyncio.timeout(LOOK_S * 2):
                    connection = await self._database.connect()
                    await self._listen(connection, heard)
                self.up = True
                pause.reset()
                gap()
                await self._serve(connection)
            except Exception as error:
                if not is_database_trouble(error):
                    log.error("live.listener_failed", exc_info=error)
                elif pause.is_first:
                    log.warning("live.listener_lost", error=repr(error))
            finally:
                self.up = False
                if connection is not None:
                    connection.terminate()
            await pause.wait()

    async def _listen(self, connection: Any, heard: Callable[[str | bytes], None]) -> None:
        await store.prepare_listener(connection)
        connection.add_termination_listener(lambda _: self._outbox.wake())
        await connection.add_listener(NAME, lambda _1, _2, _3, payload: heard(payload))

    async def _serve(self, connection: Any) -> None:
        """Until the connection is lost."""
        while not connection.is_closed():
            messages = await self._outbox.take(LOOK_S)
            async with asyncio.timeout(LOOK_S):
                if messages:
                    await store.notify(connection, NAME, messages)
                elif not connection.is_closed():
                    await store.ask_for_life(connection)


class RedisChannel:
    """Publish and subscribe in Redis."""

    def __init__(self, url: str) -> None:
        """Raises ValueError if this is no address of a Redis."""
        self._redis = Redis.from_url(
            url, socket_timeout=LOOK_S, socket_connect_timeout=LOOK_S, retry=None
        )
        self._outbox = _Outbox()
        self._heard_at = 0.0
        self.up = False

    def publish(self, messages: Sequence[str]) -> None:
        if self.up:
            self._outbox.put(messages)

    async def run(self, heard: Callable[[str | bytes], None], gap: Callable[[], None]) -> None:
        pause = _Pause()
        try:
            while True:
                try:
                    await self._connected(heard, gap, pause)
                except (RedisError, OSError, TimeoutError) as error:
                    if pause.is_first:
                        log.warning("live.redis_lost", error=repr(error))
                finally:
                    self.up = False
                await pause.wait()
        finally:
            await self._redis.aclose()

    async def _connected(
        self, heard: Callable[[str | bytes], None], gap: Callable[[], None], pause: "_Pause"
    ) -> None:
        """Until the connection is lost, or silent."""
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(NAME)
            self._heard_at = time.monotonic()

            def begin() -> None:
                self.up = True
                pause.reset()
                gap()

            # No group of tasks: what speaks to a silent Redis may not notice that it is cancelled.
            hearing = asyncio.create_task(self._hear(pubsub, heard, begin))
            # Where both fail, one is told of: asyncio need not complain of the other.
            hearing.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                while not hearing.done():
                    await self._say(pubsub)
                await hearing
            finally:
                hearing.cancel()
                await asyncio.wait([hearing], timeout=LOOK_S)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _hear(
        self, pubsub: Any, heard: Callable[[str | bytes], None], begin: Callable[[], None]
    ) -> None:
        """`begin` is called with the first answer: one that is silent takes connections, too."""
        while True:
            message = await pubsub.get_message(timeout=LOOK_S)
            if message is not None:
                self._heard_at = time.monotonic()
                if not self.up:
                    begin()
                if message["type"] == "message":
                    heard(message["data"])
            elif time.monotonic() - self._heard_at > 3 * LOOK_S:
                raise TimeoutError("Redis is silent")

    async def _say(self, pubsub: Any) -> None:
        messages = await self._outbox.take(LOOK_S)
        if not messages:
            await pubsub.ping()
        for message in messages:
            await self._redis.publish(NAME, message)


class _Pause:
    """Between attempts: longer and longer, with jitter, so that processes spread."""

    def __init__(self) -> None:
        self._longest_s = FIRST_PAUSE_S

    def reset(self) -> None:
        self._longest_s = FIRST_PAUSE_S

    @property
    def is_first(self) -> bool:
        """Whether the attempt before went well, so that there is something to tell."""
        return self._longest_s == FIRST_PAUSE_S

    async def wait(self) -> None:
        await asyncio.sleep(random.uniform(self._longest_s / 2, self._longest_s))  # noqa: S311
        self._longest_s = min(2 * self._longest_s, LAST_PAUSE_S)
