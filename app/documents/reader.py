"""Reads in batches: what is asked at one time is one statement."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from app.database.engine import UNREACHABLE, Database, KeptConnection
from app.database.retry import is_database_trouble
from app.documents.lane import Lane
from app.errors import Code, SynclineError
from app.metering import SIZES, Histogram

Question = TypeVar("Question")
Answer = TypeVar("Answer")

Ask = Callable[[Any, Sequence[Question]], Awaitable[Sequence[Answer]]]
"""Asks a connection several questions at once; the answers come in their order."""


@dataclass(slots=True, eq=False)
class _Asked(Generic[Question, Answer]):
    account: str
    question: Question
    size: int
    answer: "asyncio.Future[Answer]"


class Reader(Generic[Question, Answer]):
    """Answers with what is committed when it asks the database, after the caller asked."""

    def __init__(
        self,
        database: Database,
        ask: Ask[Question, Answer],
        *,
        lanes: int,
        batch_limit: int,
        queue_limit: int,
    ) -> None:
        self._ask = ask
        self._connections = [database.kept() for _ in range(lanes)]
        self._lane: Lane[_Asked[Question, Answer]] = Lane(
            [partial(self._serve, connection) for connection in self._connections],
            _fail,
            batch_limit,
        )
        self._queue_limit = queue_limit
        self._waiting = 0
        self._stopping = False
        self.batches = Histogram(SIZES)
        """By how many questions they held."""

    @property
    def waiting(self) -> int:
        """Questions that are queued and not yet part of a batch."""
        return self._waiting

    def start(self) -> None:
        # Kept, since to look the running loop up takes a system call.
        self._loop = asyncio.get_running_loop()
        self._lane.start()

    async def stop(self) -> None:
        """Answers what was asked, then ends."""
        self._stopping = True
        await self._lane.stop()
        for connection in self._connections:
            await connection.close()

    async def read(self, account: str, question: Question, size: int = 1) -> Answer:
        """The answer; `size` counts towards `batch_limit`.

        Raises SynclineError OVERLOADED, SHUTTING_DOWN or DATABASE_UNAVAILABLE, or what the driver
        raises.
        """
        if self._stopping:
            raise SynclineError(Code.SHUTTING_DOWN, "Send the same request again in a moment.")
        if self._waiting >= self._queue_limit:
            raise SynclineError(Code.OVERLOADED, "Send the same request again after Retry-After.")
        self._waiting += 1
        answer: asyncio.Future[Answer] = self._loop.create_future()
        asked = _Asked(account, question, size, answer)
        self._lane.add(asked)
        return await answer

    async def _serve(self, kept: KeptConnection, batch: Sequence[_Asked[Question, Answer]]) -> None:
        self._waiting -= len(batch)
        self.batches.add(len(batch))
        await self._answer(kept, batch)

    async def _answer(
        self, kept: KeptConnection, batch: Sequence[_Asked[Question, Answer]]
    ) -> None:
        """One bad question must not take others with it: each is asked alone then."""
        try:
            answers = await self._ask_twice(kept, [asked.question for asked in batch])
        except Exception as error:
            if len(batch) == 1 or is_database_trouble(error):
                _fail(batch, error)
                return
            for asked in batch:
                await self._answer(kept, [asked])
            return
        for asked, answer in zip(batch, answers, strict=True):
            if not asked.answer.done():
                asked.answer.set_result(answer)

    async def _ask_twice(
        self, kept: KeptConnection, questions: Sequence[Question]
    ) -> Sequence[Answer]:
        """The server may have ended the connection while nobody used it."""
        try:
            async with kept.use() as connection:
                return await self._ask(connection, questions)
        except UNREACHABLE:
            async with kept.use() as connection:
                return await self._ask(connection, questions)


def _fail(batch: Sequence[_Asked[Any, Any]], error: Exception) -> None:
    for asked in batch:
        if not asked.answer.done():
            asked.answer.set_exception(error)
