"""The end of a link that serves what is handed over."""

import asyncio
from collections.abc import Awaitable, Callable

from app.answer import Answer
from app.failures import failed
from app.metering import NeighbourMeter
from app.neighbours.frames import FAREWELL, Handed, Reply, handed
from app.neighbours.stream import Stream

Write = Callable[[str, str | None, bytes], Awaitable[Answer]]
"""What answers a PUT of the document `key`, or a sync where that is None: account, key, body."""


class ServingEnd(Stream):
    """Answers one neighbour's requests, each by a task of its own."""

    def __init__(self, write: Write, meter: NeighbourMeter) -> None:
        super().__init__()
        self._write_here = write
        self._meter = meter
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaves = False

    async def leave(self) -> None:
        """Takes nothing new from now on, and returns once all that was begun is answered.

        The neighbour, which hears of it, closes the link when it has all answers.
        """
        self._leaves = True
        self.send(FAREWELL)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.show_life()

    def heard(self, message: bytes) -> None:
        if not message:
            self.show_life()
            return
        request = handed(message)
        if self._leaves:
            self.send(Reply(request.number, None))
            return
        self._meter.served += 1
        task = self._loop.create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def pause_writing(self) -> None:
        """A neighbour that does not take its answers gets no further ones."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    async def _answer(self, request: Handed) -> None:
        key = request.key
        try:
            answer = await self._write_here(request.account, key, request.body)
        except Exception as error:
            asked = ("POST", "/v1/sync") if key is None else ("PUT", f"/v1/documents/{key}")
            answer = failed(error, *asked)
        except BaseException:
            self.abort()  # else whoever asked would wait for ever
            raise
        self.send(Reply(request.number, answer))
