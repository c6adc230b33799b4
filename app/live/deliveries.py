"""Push by pulling: whoever is behind is pulled for, and what came is sent as it is now.

Nothing queues for a socket. While one is busy, or does not take what was sent, changes pile up
where they are, in the database; the next pull takes them all.
"""

import asyncio
import random
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

import structlog

from app.database.retry import is_database_trouble
from app.errors import Code, SynclineError
from app.live import frames
from app.live.hub import Hub
from app.live.socket import LiveSocket
from app.sync.cursor import Cursor
from app.sync.exchange import Changed, Exchange

log = structlog.get_logger()

WORKERS = 32
"""Accounts that are pulled for at once: twice what one statement takes, so that all are full."""
OVERLOADED_S = (0.1, 0.3)
"""After which pause an account is tried again where too much else was asked."""
BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


@dataclass(slots=True)
class Lag:
    """From hearing that an account moved to having written to its sockets."""

    count: int = 0
    sum_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    """How many took at most BOUNDS_MS; the last one: longer."""

    def add(self, seconds: float) -> None:
        self.count += 1
        self.sum_s += seconds
        self.buckets[bisect_left(BOUNDS_MS, seconds * 1000)] += 1


class Deliveries:
    """Accounts in the order in which they fell behind, and the workers that pull for them."""

    def __init__(self, hub: Hub, exchange: Exchange, *, most_changes: int, most_bytes: int) -> None:
        self._hub = hub
        self._exchange = exchange
        self._most_changes = most_changes
        self._most_bytes = most_bytes
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._since: dict[str, float] = {}
        """Accounts that are behind and not yet taken by a worker, and since when."""
        self._served: set[str] = set()
        """By a worker just now; one at a time serves an account."""
        self._failed: set[str] = set()
        self.lag = Lag()

    @property
    def waiting(self) -> int:
        """Accounts that are behind, those whose pull failed among them."""
        return len(self._since) + len(self._failed)

    def add(self, account: str) -> None:
        """Somebody of this account is behind."""
        if account not in self._since:
            self._since[account] = time.monotonic()
            if account not in self._served:
                self._queue.put_nowait(account)

    def retry(self) -> None:
        """The database answers again, perhaps."""
        failed, self._failed = self._failed, set()
        for account in failed:
            self.add(account)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WORKERS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            account = await self._queue.get()
            since = self._since.pop(account)
            self._served.add(account)
            try:
                if await self._serve(account):
                    self.lag.add(time.monotonic() - since)
            except Exception as error:
                # A worker that died would leave the others with its work.
                self._put_off(account, error)
            finally:
                self._served.discard(account)
                if account in self._since:
                    self._queue.put_nowait(account)

    def _put_off(self, account: str, error: Exception) -> None:
        if isinstance(error, SynclineError) and error.code is Code.OVERLOADED:
            pause_s = random.uniform(*OVERLOADED_S)  # noqa: S311 - not a secret
            asyncio.get_running_loop().call_later(pause_s, self.add, account)
            return
        if not (isinstance(error, SynclineError) or is_database_trouble(error)):
            log.exception("live.delivery_failed")
        self._failed.add(account)

    async def _serve(self, account: str) -> bool:
        """Sends each socket what it lacks; whether anything was sent."""
        behind: dict[Cursor | None, list[LiveSocket]] = defaultdict(list)
        sent = False
        for socket in self._hub.of(account):
            if isinstance(socket, LiveSocket) and socket.is_behind:
                behind[socket.position].append(socket)
        for position, sockets in behind.items():
            pulling = [socket for socket in sockets if not socket.pulls_itself]
            for socket in sockets:
                if socket.pulls_itself:
                    sent |= _settle(socket, socket.take_due(), socket.poke(self._exchange.era))
            if pulling:
                sent |= await self._pull(account, position, pulling)
        return sent

    async def _pull(self, account: str, position: Cursor | None, sockets: list[LiveSocket]) -> bool:
        """One pull for all that stand at the same position."""
        owed = [(socket, socket.take_due()) for socket in sockets]
        try:
            changed = await self._exchange.changes(
                account, position, self._most_changes, self._most_bytes
            )
        except BaseException as error:
            if isinstance(error, SynclineError) and error.code is Code.CURSOR_EXPIRED:
                return self._expire(owed, position, error)
            for socket, due in owed:
                socket.owe(due)
            raise
        large = changed.more or _size(changed) > self._most_bytes
        frame = b"" if large else frames.changes(changed.cursor, changed.changes)
        sent = False
        for socket, due in owed:
            if not _stands(socket, position):
                self._postpone(socket, due)
            elif large:
                sent |= _settle(socket, due, socket.poke(changed.cursor.era))
            else:
                sent |= _settle(socket, due, socket.deliver(changed, frame))
        return sent

    def _expire(
        self,
        owed: list[tuple[LiveSocket, int]],
        position: Cursor | None,
        error: SynclineError,
    ) -> bool:
        frame, sent = frames.cursor_expired(error), False
        for socket, due in owed:
            if _stands(socket, position):
                sent |= _settle(socket, due, socket.resync(frame))
            else:
                self._postpone(socket, due)
        return sent

    def _postpone(self, socket: LiveSocket, due: int) -> None:
        """It pushed meanwhile: whoever answers that may have looked before this was owed again."""
        socket.owe(due)
        if socket.is_behind:
            self.add(socket.account)


def _settle(socket: LiveSocket, due: int, sent: bool) -> bool:
    if not sent:
        socket.owe(due)
    return sent


def _stands(socket: LiveSocket, position: Cursor | None) -> bool:
    return not socket.busy and not socket.pulls_itself and socket.position == position


def _size(changed: Changed) -> int:
    return sum(len(memoryview(change.value)) for change in changed.changes)
