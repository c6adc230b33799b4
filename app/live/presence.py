"""Which devices of an account are connected, over all processes.

Each process writes its own sockets into a table, many in one statement, and says every few seconds
that it lives. The rows of one that has not are removed by the others. The tables are not logged:
after a crash of PostgreSQL they are empty, which a process finds by its own row, and fills them.
"""

import asyncio
import time
from collections.abc import Iterable
from itertools import islice
from typing import TypeVar
from uuid import UUID

import structlog

from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.errors import SynclineError
from app.live import frames, store
from app.live.hub import Hub, Subscriber
from app.live.relay import Relay
from app.live.store import Seat

log = structlog.get_logger()
T = TypeVar("T")
V = TypeVar("V")

TICK_S = 0.2
"""Joins, leaves and lists are gathered for so long, so an account is told no more often."""
AT_ONCE = 1_000
"""Rows in one statement, and accounts whose lists are read by one."""
BEAT_S = 2.0
SILENT_S = 6.0
"""Who has not said for so long that it lives is taken for dead."""


class Presence:
    def __init__(self, database: Database, hub: Hub, relay: Relay, process: UUID) -> None:
        self._database = database
        self._hub = hub
        self._relay = relay
        self._process = process
        self._joins: dict[UUID, Seat] = {}
        self._leaves: dict[UUID, Seat] = {}
        self._unseen: dict[str, None] = {}
        """Accounts whose subscribers have to be told, in the order in which that came up."""
        self._told: dict[str, bytes] = {}
        """The last frame of each account here, so that the same one is not told again."""
        self._wake = asyncio.Event()
        self._beating_since_s: float | None = None
        self._beats = asyncio.Lock()
        self._listens = False
        """Whether the others were told that this process has sockets."""
        hub.on_join = self._join
        hub.on_leave = self._leave
        relay.on_presence = self.look

    @property
    def rows(self) -> int:
        """Own sockets that are in the table."""
        return self._hub.sockets - len(self._joins)

    @property
    def waiting(self) -> int:
        """Joins and leaves that are not written, and accounts that are not told."""
        return len(self._joins) + len(self._leaves) + len(self._unseen)

    def look(self, accounts: Iterable[str]) -> None:
        """The presence of these accounts may have changed."""
        for account in accounts:
            if account in self._hub:
                self._unseen[account] = None
                self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work())
            tasks.create_task(self._live())

    async def stop(self) -> None:
        """Takes this process out of the tables and tells the others, if that is possible."""
        try:
            async with self._database.connection() as connection:
                gone = await store.end(connection, self._process)
        except Exception as error:
            if not _is_trouble(error):
                raise
            return  # the others will find it silent
        self._relay.tell_presence(gone)

    # --- who comes and goes -------------------------------------------------------------------

    def _join(self, one: Subscriber) -> None:
        self._joins[one.id] = Seat(one.account, one.id, one.device, one.since_ms)
        self._wake.set()

    def _leave(self, one: Subscriber) -> None:
        # What was not written need not be removed; what is just being written has to be.
        if self._joins.pop(one.id, None) is None:
            self._leaves[one.id] = Seat(one.account, one.id, one.device, one.since_ms)
            self._wake.set()
        if one.account not in self._hub:
            self._told.pop(one.account, None)
            self._unseen.pop(one.account, None)

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
                await self._tell()
            except Exception as error:
                if not _is_trouble(error):
                    log.exception("live.presence_failed")
            if self._joins or self._leaves or self._unseen:
                self._wake.set()
            await asyncio.sleep(TICK_S)

    async def _write(self) -> None:
        """Joins and leaves; what fails is tried again, since doing it twice does no harm."""
        leaves, joins = _first(self._leaves, AT_ONCE), _first(self._joins, AT_ONCE)
        if not leaves and not joins:
            return
        try:
            async with self._database.connection() as connection:
                if joins:
                    await store.join(connection, self._process, list(joins.values()))
                if leaves:
                    await store.leave(connection, self._process, list(leaves.values()))
        except BaseException:
            here = {one.id for one in self._hub}
            for id, seat in joins.items():
                (self._joins if id in here else self._leaves)[id] = seat
            self._leaves |= leaves
            raise
        accounts = {seat.account for seat in (*joins.values(), *leaves.values())}
        for seat in joins.values():
            self._told.pop(seat.account, None)  # the new socket was told nothing yet
        self._relay.tell_presence(accounts)
        self.look(accounts)
        if joins:
            await self._begin_to_listen()

    async def _tell(self) -> None:
        accounts = list(_first(self._unseen, AT_ONCE))
        if not accounts:
            return
        try:
            async with self._database.connection() as connection:
                found = await store.present(connection, accounts)
        except BaseException:
            self.look(accounts)
            raise
        for account in accounts:
            frame = frames.presence(found.get(account, ()))
            if account in self._hub and self._told.get(account) != frame:
                self._told[account] = frame
                for subscriber in self._hub.of(account):
                    subscriber.present(frame)

    # --- who lives ----------------------------------------------------------------------------

    async def beat(self) -> None:
        """Says that this process lives and whether it has sockets, which it writes again if nobody
        knew of it."""
        async with self._beats:
            await self._beat()

    async def _begin_to_listen(self) -> None:
        async with self._beats:
            if not self._listens:
                await self._beat()

    async def _beat(self) -> None:
        listens, announced = self._hub.sockets > 0, self._relay.announced
        async with self._database.connection() as connection:
            told = await store.beat(connection, self._process, listens=listens)
            if told.new:
                self._write_again()
            # After a pause of the database everybody looks dead who did not beat first.
            now_s = time.monotonic()
            self._beating_since_s = self._beating_since_s or now_s
            if now_s - self._beating_since_s > SILENT_S:
                gone = await store.bury(connection, int(SILENT_S * 1000))
                self._relay.tell_presence(gone)
                self.look(gone)
        if self._relay.announced == announced:  # else somebody has begun to listen meanwhile
            self._relay.unheard = not told.heard
        if listens and (told.new or not self._listens):
            self._relay.announce()
        self._listens = listens

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self.beat()
            except Exception as error:
                self._beating_since_s = None
                if not _is_trouble(error):
                    log.exception("live.beat_failed")

    def _write_again(self) -> None:
        for one in self._hub:
            self._joins[one.id] = Seat(one.account, one.id, one.device, one.since_ms)
        self._wake.set()


def _first(waiting: dict[T, V], most: int) -> dict[T, V]:
    """Takes so many out."""
    taken = dict(islice(waiting.items(), most))
    for key in taken:
        del waiting[key]
    return taken


def _is_trouble(error: BaseException) -> bool:
    return isinstance(error, SynclineError) or is_database_trouble(error)
