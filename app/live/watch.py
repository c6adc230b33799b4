"""What is looked at again and again, for all sockets at once: heads, the era, presence, tokens."""

import asyncio

import structlog

from app.clock import Clock
from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.errors import SynclineError
from app.live import store
from app.live.deliveries import Deliveries
from app.live.hub import Hub
from app.live.presence import Presence
from app.live.relay import Relay
from app.live.socket import LiveSocket
from app.live.types import CloseCode

log = structlog.get_logger()

AT_ONCE = 1_000
"""Accounts in one statement."""
DEAF_SHARE = 4
"""How many times as often heads are looked at while nothing is heard from other processes."""
PRESENCE_ROUND = 10
"""Sweeps in which the presence of every account is looked at once."""
TOKENS_S = 1.0
LEAST_WARNING_MS = 2_000
"""Two looks: one may come late."""


class Watch:
    """Heals whatever message was lost, and ends what has expired."""

    def __init__(
        self,
        database: Database,
        hub: Hub,
        deliveries: Deliveries,
        presence: Presence,
        relay: Relay,
        clock: Clock,
        *,
        sweep_s: float,
        warn_ms: int,
    ) -> None:
        self._database = database
        self._hub = hub
        self._deliveries = deliveries
        self._presence = presence
        self._relay = relay
        self._clock = clock
        self._sweep_s = sweep_s
        self._warn_ms = warn_ms
        self._era = ""
        self._hurry = asyncio.Event()
        self._round = 0
        relay.on_gap = self.hurry
        self.sweeps = 0
        self.healed = 0
        """Accounts of which only a sweep told that they had moved."""

    def hurry(self) -> None:
        """Messages may have been missed: looks at once, and at the presence of all."""
        self._round = 0
        self._hurry.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep_forever())
            tasks.create_task(self._check_tokens_forever())

    async def _sweep_forever(self) -> None:
        while True:
            pause_s = self._sweep_s if self._relay.up else self._sweep_s / DEAF_SHARE
            try:
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            everybody = self._hurry.is_set()
            self._hurry.clear()
            try:
                await self.sweep()
                if everybody:
                    await self._presence.beat()  # a crash may have emptied the tables
                self._look_at_presence(everybody=everybody)
            except Exception as error:
                if not (isinstance(error, SynclineError) or is_database_trouble(error)):
                    log.exception("live.sweep_failed")

    async def sweep(self) -> None:
        """Compares the heads of all accounts that have sockets with what is known of them."""
        heads = self._hub.heads()
        for start in range(0, max(1, len(heads)), AT_ONCE):
            some = heads[start : start + AT_ONCE]
            async with self._database.connection() as connection:
                era, found = await store.moved(
                    connection, [account for account, _ in some], [seq for _, seq in some]
                )
            if era != self._era:
                if self._era:
                    self._hub.changed_all()
                self._era = era
            known = dict(some)
            for account, seq in found:
                self.healed += self._hub.found_at(account, known[account], seq)
        self.sweeps += 1
        self._deliveries.retry()

    def _look_at_presence(self, *, everybody: bool) -> None:
        accounts = [account for account, _ in self._hub.heads()]
        if not everybody:
            accounts = accounts[self._round :: PRESENCE_ROUND]
            self._round = (self._round + 1) % PRESENCE_ROUND
        self._presence.look(accounts)

    async def _check_tokens_forever(self) -> None:
        while True:
            await asyncio.sleep(TOKENS_S)
            self.check_tokens()

    def check_tokens(self) -> None:
        """Warns those whose token expires soon, and closes those whose token has expired."""
        now_ms = self._clock()
        for one in self._hub:
            if isinstance(one, LiveSocket):
                left_ms = one.expires_ms - now_ms
                if left_ms <= 0:
                    one.close(CloseCode.UNAUTHENTICATED, "token-expired")
                elif left_ms <= self._warn_ms_of(one) and not one.is_warned:
                    one.warn()

    def _warn_ms_of(self, one: LiveSocket) -> int:
        """How long before the end; a token of which half is left need not be renewed, else
        those that live shortly, and their clients, would be asked for again and again."""
        return min(self._warn_ms, max(one.held_ms // 2, LEAST_WARNING_MS))
