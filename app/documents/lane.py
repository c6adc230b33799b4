"""Batching: while one batch is served, the next fills. No batch waits for a time to fill."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger()

SHARE = 32
"""What one account may have of a batch, by size, while others wait or are served."""
SLOW_S = 0.05
"""After so long nothing is held back for a batch that is under way; it is looked at as often."""


class Work(Protocol):
    """Something to be done for an account; `size` counts towards the limit of a batch."""

    @property
    def account(self) -> str: ...

    @property
    def size(self) -> int: ...


W = TypeVar("W", bound=Work)


class Lane(Generic[W]):
    """A queue and the tasks that serve it, each batch after batch.

    The work of an account is served in order: while some of it is being served, the rest waits.
    Accounts take turns, so that one which floods the lane makes no other wait for more than its
    share of a batch. One that is set aside waits by itself.
    """

    def __init__(
        self,
        serve: Sequence[Callable[[list[W]], Awaitable[None]]],
        fail: Callable[[Sequence[W], Exception], None],
        limit: int,
        worth: int = 1,
        long: int = 1,
    ) -> None:
        """Each of `serve` answers a batch of at most `limit` by size (or of one work); if it
        raises, `fail` does. There are as many batches at once, but none is begun beside others
        before `worth` waits, by size, unless those others are `long` or take longer than SLOW_S."""
        self._servers = serve
        self._fail = fail
        self._limit = limit
        self._worth = worth
        self._long = long
        self._queues: dict[str, deque[W]] = {}
        self._size = 0
        """Of what waits in these queues."""
        self._apart: dict[str, deque[W]] = {}
        """What waits of accounts that are being served or are set aside."""
        self._aside: set[str] = set()
        self._under_way: dict[object, tuple[int, float]] = {}
        """Of each batch that is being served, its size, and when it began in seconds."""
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(serve)) for serve in self._servers]

    async def stop(self) -> None:
        """Serves what waits, that of accounts set aside included, then ends."""
        self._stopping = True
        self._wake.set()
        await asyncio.gather(*self._tasks)

    def add(self, work: W) -> None:
        apart = self._apart.get(work.account)
        if apart is not None:
            apart.append(work)
            return
        queue = self._queues.get(work.account)
        if queue is None:
            self._queues[work.account] = deque((work,))
        else:
            queue.append(work)
        self._size += work.size
        if self._is_ready():
            self._wake.set()

    def set_aside(self, account: str) -> None:
        """Serves no more work of the account until it is let go."""
        self._aside.add(account)
        if account not in self._apart:
            self._keep_apart(account)

    def take_aside(self, account: str) -> list[W]:
        """Takes away what came of an account since it was set aside."""
        queue = self._apart[account]
        taken = list(queue)
        queue.clear()
        return taken

    def let_go(self, account: str) -> None:
        """Serves what came of an account since it was set aside, and what will come.

        The batch in which it was set aside must have ended.
        """
        self._aside.remove(account)
        self._take_back(account)
        self._wake.set()

    def _keep_apart(self, account: str) -> None:
        queue = self._apart[account] = self._queues.pop(account, deque())
        if queue:
            self._size -= sum(work.size for work in queue)

    def _take_back(self, account: str) -> None:
        queue = self._apart.pop(account)
        if queue:
            self._queues[account] = queue
            self._size += sum(work.size for work in queue)

    def _is_ready(self) -> bool:
        if not self._queues:
            return False
        if self._size >= self._worth:
            return True
        slow_s = time.monotonic() - SLOW_S
        return all(
            size >= self._long or began_s <= slow_s for size, began_s in self._under_way.values()
        )

    async def _run(self, serve: Callable[[list[W]], Awaitable[None]]) -> None:
        while True:
            while self._is_ready():
                batch = self.take()
                this = object()
                self._under_way[this] = sum(work.size for work in batch), time.monotonic()
                if self._is_ready():
                    self._wake.set()
                try:
                    await serve(batch)
                except Exception as error:
                    # A lane that died would leave its accounts without an answer.
                    log.exception("batch failed")
                    self._fail(batch, error)
                finally:
                    self.end(batch)
                    del self._under_way[this]
            if self._stopping and not self._queues and not self._apart:
                self._wake.set()  # the others end as well
                return
            self._wake.clear()
            with suppress(TimeoutError):
                # What is held back for another batch is not to wait for one that hangs.
                async with asyncio.timeout(SLOW_S if self._under_way else None):
                    await self._wake.wait()

    def take(self) -> list[W]:
        """The next batch: one work of each account in turn, then another of each.

        No other is to hold these accounts until this one has ended.
        """
        batch: list[W] = []
        size, taken = 0, dict.fromkeys(self._queues, 0)
        # Who is being served elsewhere asks as well, though nothing of theirs is taken now.
        share = SHARE if len(taken) > 1 or self._under_way else self._limit
        while taken:
            account = next(iter(taken))
            queue, had = self._queues[account], taken.pop(account)
            work = queue[0]
            if batch and size + work.size > self._limit:
                break
            if had and had + work.size > share:
                continue
            batch.append(queue.popleft())
            size += work.size
            if queue:
                taken[account] = had + work.size
        self._size -= size
        for account in {work.account for work in batch}:
            self._keep_apart(account)
        return batch

    def end(self, batch: Sequence[W]) -> None:
        """Lets the accounts of a batch be served again, but for those that are set aside."""
        for account in {work.account for work in batch} - self._aside:
            self._take_back(account)
