"""The live part of a process: all that stands between a commit and a socket."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import structlog
from litestar.types import ASGIApp

from app.auth.tokens import Verifier
from app.clock import Clock
from app.database.engine import Database
from app.live.channel import Channel, PostgresChannel, RedisChannel
from app.live.deliveries import Deliveries
from app.live.endpoint import EndpointLimits, LiveEndpoint
from app.live.hub import Hub
from app.live.presence import Presence
from app.live.relay import Relay
from app.live.watch import Watch
from app.settings import Settings, SettingsError, variable
from app.sync.exchange import Exchange

log = structlog.get_logger()

FAREWELL_S = 0.05
"""For the last message to go out; a lost one is made up for by the others."""


class Live:
    """`hub`, `deliveries`, `relay`, `presence` and `watch` have numbers for those who watch."""

    def __init__(
        self, database: Database, exchange: Exchange, clock: Clock, settings: Settings
    ) -> None:
        """Raises SettingsError if the address of Redis is none."""
        self._exchange = exchange
        self._clock = clock
        self._settings = settings
        process = uuid4()
        channel = _channel(database, settings.redis_url)
        self.hub = Hub(
            most_sockets=settings.live_sockets, most_of_account=settings.live_account_sockets
        )
        self.deliveries = Deliveries(
            self.hub,
            exchange,
            most_changes=settings.live_changes,
            most_bytes=settings.live_change_bytes,
        )
        self.relay = Relay(self.hub, channel, process)
        self.presence = Presence(database, self.hub, self.relay, process)
        self.watch = Watch(
            database,
            self.hub,
            self.deliveries,
            self.presence,
            self.relay,
            clock,
            sweep_s=settings.live_sweep_s,
            warn_ms=int(settings.live_reauth_s * 1000),
        )
        self._tasks: list[asyncio.Task[None]] = []

    def endpoint(self, router: ASGIApp, verifier: Verifier) -> LiveEndpoint:
        """The app of the sockets, in front of what takes all else."""
        settings = self._settings
        limits = EndpointLimits(
            hello_s=settings.live_hello_s,
            send_s=settings.live_send_s,
            frame_bytes=settings.live_frame_bytes,
            frames_per_s=settings.live_frames_per_s,
            trust_ms=int(settings.live_trust_s * 1000),
            most_waiting=settings.live_sockets,
        )
        return LiveEndpoint(
            router, self.hub, self.deliveries, self._exchange, verifier, self._clock, limits
        )

    async def start(self) -> None:
        # Before anybody is told of this process: whoever hears of it counts the others.
        await self.presence.beat()
        self._tasks = [
            asyncio.create_task(self._keep_going(work))
            for work in (
                self.deliveries.run,
                self.relay.listen,
                self.relay.tell,
                self.presence.run,
                self.watch.run,
            )
        ]

    async def _keep_going(self, work: Callable[[], Awaitable[None]]) -> None:
        """None of the tasks ends by itself; one that does, by a mistake of ours, begins again."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("live.task_failed")
            await asyncio.sleep(1.0)
            self.hub.changed_all()

    async def stop(self) -> None:
        """To be called when no socket is left: takes this process out of the presence."""
        await self.presence.stop()
        self.relay.flush()
        await asyncio.sleep(FAREWELL_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _channel(database: Database, redis_url: str | None) -> Channel:
    if redis_url is None:
        return PostgresChannel(database)
    try:
        return RedisChannel(redis_url)
    except ValueError as error:
        raise SettingsError(f"{variable('redis_url')}: {error}") from error
