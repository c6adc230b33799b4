"""The one write path: a queue, batches, commits.

Every change to a document, whoever asks, is a `Submission` that goes through here. The steps
are numbered as in docs/architecture.md: the first is here, the others are in `batch_writer.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from app.clock import Clock
from app.database.engine import Database, KeptConnection
from app.documents.batch_writer import BatchWriter
from app.documents.cache import Cache
from app.documents.committing import Committer, fail
from app.documents.deciding import Deciding
from app.documents.gathering import Gathering
from app.documents.lane import Lane
from app.documents.model import Committed, Decision, Limits
from app.documents.parking import Parking
from app.documents.submission import Submission
from app.errors import Code, SynclineError
from app.metering import SIZES, Histogram, WriteMeter
from merge_rules.registry import Registry

WAITING_OF_ONE = 1_024
"""Mutations of one account that may wait: who floods the service fills no queue but its own."""

WORTH_A_BATCH = 16
"""Mutations and events for which a batch is begun while another commits: each batch costs by
itself what several mutations do."""
LONG_BATCH = 24
"""Mutations and events that take so long that nothing is held back for them."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    lanes: int
    """Batches that may be under way at once, each on a connection."""
    queue_limit: int
    batch_limit: int
    history: int
    max_documents: int
    limits: Limits
    cache_bytes: int = 0
    """Of documents kept in memory, about."""


class Pipeline:
    """Batches what waits and commits it. While a batch commits, the next fills.

    As many batches may be under way as there are connections. An account is in one of them at most,
    so its writes keep their order, and two processes are kept apart by the lock on its head. One
    that somebody holds for long is set aside by the lane, and waits where nobody waits for it.
    """

    def __init__(
        self, database: Database, registry: Registry, clock: Clock, settings: PipelineSettings
    ) -> None:
        self._queue_limit = settings.queue_limit
        self._cache = Cache(settings.cache_bytes)
        self.meter = WriteMeter()
        self.batches = Histogram(SIZES)
        """By how many mutations and events they held."""
        self._writer = BatchWriter(
            Gathering(registry, self._cache, clock, settings.history, self.meter),
            Deciding(registry, settings.limits, settings.max_documents),
            self._cache,
            self.meter,
        )
        self._committer = Committer(self._writer, self.meter)
        self._connections = [database.kept(patient=False) for _ in range(settings.lanes)]
        self._lane: Lane[Submission] = Lane(
            [partial(self._serve, connection) for connection in self._connections],
            _fail_all,
            settings.batch_limit,
            WORTH_A_BATCH,
            LONG_BATCH,
        )
        self._parking = Parking(
            database,
            partial(self._committer.commit, lock=True),
            fail,
            self._let_go,
            settings.batch_limit,
        )
        self._waiting = 0
        self._waiting_of: dict[str, int] = {}
        self._stopping = False

    def listen(self, listener: Callable[[Committed], None]) -> None:
        """Tells of every commit that changed a document. A listener takes note, and no more: it
        must neither wait nor raise."""
        self._writer.listeners.append(listener)

    @property
    def waiting(self) -> int:
        """Mutations and events that are queued and not yet part of a batch."""
        return self._waiting

    @property
    def parked(self) -> int:
        """Accounts that are set aside since another session holds them."""
        return self._parking.accounts

    @property
    def cache(self) -> Cache:
        return self._cache

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane.start()

    async def stop(self) -> None:
        """Answers everything that was submitted, then ends."""
        self._stopping = True
        await self._lane.stop()
        await self._parking.close()
        for connection in self._connections:
            await connection.close()

    async def submit(self, submission: Submission) -> list[Decision]:
        """1. Queue. A decision for each mutation, once all of them are committed.

        Raises SynclineError: OVERLOADED, SHUTTING_DOWN, DATABASE_UNAVAILABLE, DEVICE_FORKED
        for the whole submission. A rejected mutation is a decision with a problem. A caller
        that is cancelled leaves the batch as it is.
        """
        if self._stopping:
            raise SynclineError(Code.SHUTTING_DOWN, "Send the same request again in a moment.")
        account, size = submission.account, submission.size
        of_account = self._waiting_of.get(account, 0)
        full = self._waiting + self._parking.size + size > self._queue_limit
        if full or (of_account and of_account + size > WAITING_OF_ONE):
            raise SynclineError(Code.OVERLOADED, "Send the same request again after Retry-After.")
        self._waiting += size
        self._waiting_of[account] = of_account + size
        submission.answer = self._loop.create_future()
        self._lane.add(submission)
        answer = await submission.answer
        if isinstance(answer, SynclineError):
            raise answer.again()
        return answer

    async def _serve(self, connection: KeptConnection, batch: Sequence[Submission]) -> None:
        self.batches.add(sum(submission.size for submission in batch))
        self._wait_no_more(batch)
        held = await self._committer.commit(connection, batch)
        if held:
            self._park(held)

    def _wait_no_more(self, batch: Sequence[Submission]) -> None:
        for submission in batch:
            self._waiting -= submission.size
            left = self._waiting_of.pop(submission.account) - submission.size
            if left:
                self._waiting_of[submission.account] = left

    def _park(self, held: Sequence[Submission]) -> None:
        for account in {submission.account for submission in held}:
            self._lane.set_aside(account)
        self._parking.add(held)

    def _let_go(self, account: str, error: SynclineError | None) -> None:
        lane = self._lane
        if error is not None:
            # Who waits behind need not find out one after another.
            behind = lane.take_aside(account)
            self._wait_no_more(behind)
            fail(behind, error)
        lane.let_go(account)


def _fail_all(batch: Sequence[Submission], error: Exception) -> None:
    fail(batch, SynclineError(Code.INTERNAL, f"The log says why: {type(error)}."))
