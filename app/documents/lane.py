"""Batching without a timer: while one batch is served, the next fills."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog

log = structlog.get_logger()

SHARE = 32
"""What one account may have of a batch, by size, while others wait."""


class Work(Protocol):
    """Something to be done for an account; `size` counts towards the limit of a batch."""

    @property
    def account(self) -> str: ...

    @property
    def size(self) -> int: ...


W = TypeVar("W", bound=Work)


class Lane(Generic[W]):
    """A queue and the task that serves it, batch after batch.

    The work of an account is served in order. Accounts take turns, so that one which floods
    the lane makes no other wait for more than its share of a batch. One that is set aside waits
    by itself.
    """

    def __init__(
        self,
        serve: Callable[[list[W]], Awaitable[None]],
        fail: Callable[[Sequence[W], Exception], None],
        limit: int,
    ) -> None:
        """`serve` answers a batch of at most `limit` by size (or of one work); if it raises,
        `fail` does."""
        self._serve = serve
        self._fail = fail
        self._limit = limit
        self._queues: OrderedDict[str, deque[W]] = OrderedDict()
        self._aside: dict[str, deque[W]] = {}
        """What waits of accounts that are set aside."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Serves what waits, that of accounts set aside included, then ends."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def add(self, work: W) -> None:
        queue = self._queues.get(work.account)
        if queue is None and self._aside:
            queue = self._aside.get(work.account)
        if queue is None:
            self._queues[work.account] = deque((work,))
        else:
            queue.append(work)
        self._wake.set()

    def set_aside(self, account: str) -> None:
        """Serves no work of the account until it is let go."""
        self._aside[account] = self._queues.pop(account, deque())

    def take_aside(self, account: str) -> list[W]:
        """Takes away what came of an account since it was set aside."""
        queue = self._aside[account]
        taken = list(queue)
        queue.clear()
        return taken

    def let_go(self, account: str) -> None:
        """Serves what came of an account since it was set aside, and what will come."""
        queue = self._aside.pop(account)
        if queue:
            self._queues[account] = queue
        self._wake.set()

    async def _run(self) -> None:
        while True:
            while self._queues:
                batch = self.take()
                try:
                    await self._serve(batch)
                except Exception as error:
                    # A lane that died would leave its accounts without an answer.
                    log.exception("batch failed")
                    self._fail(batch, error)
            if self._stopping and not self._aside:
                return
            self._wake.clear()
            await self._wake.wait()

    def take(self) -> list[W]:
        """The next batch: one work of each account in turn, then another of each."""
        batch: list[W] = []
        size, taken = 0, dict.fromkeys(self._queues, 0)
        share = SHARE if len(taken) > 1 else self._limit
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
                self._queues.move_to_end(account)
                taken[account] = had + work.size
            else:
                del self._queues[account]
        return batch
