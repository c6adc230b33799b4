"""The end of a link that hands requests over."""

import asyncio

from app.answer import Answer
from app.database.engine import unavailable
from app.neighbours.frames import Handed, reply
from app.neighbours.stream import Stream

MOST_IN_FLIGHT = 1_024
DOUBTFUL_LOOKS = 2
"""Without a sign of life since the first of them: the neighbour gets no further requests."""
SILENT_LOOKS = 10
"""Without a sign of life since the first of them: the neighbour is taken for hanging."""


class AskingEnd(Stream):
    """Hands requests over to one neighbour, and waits for its answers.

    The neighbour greets with a sign of life, so that one which hangs is not asked. Whether it
    still lives is found by looking, and counted in looks rather than seconds: a process that was
    stopped itself has not waited for anybody.
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_flight: dict[int, asyncio.Future[Answer | None]] = {}
        self._number = 0
        self._greeted = False
        self._leaves = False
        self._full = False
        self._silent_looks = 0

    @property
    def takes(self) -> bool:
        """Whether a request may be handed over now."""
        return (
            self._greeted
            and not (self._leaves or self._full or self.closed.done())
            and self._silent_looks < DOUBTFUL_LOOKS
            and len(self._in_flight) < MOST_IN_FLIGHT
        )

    def ask(self, account: str, key: str | None, body: bytes) -> "asyncio.Future[Answer | None]":
        """The neighbour's answer; None if it declines before it has begun anything.

        Raises DATABASE_UNAVAILABLE if the link breaks: it is not certain what was done. A caller
        that is cancelled leaves the request with the neighbour.
        """
        self._number = number = self._number + 1
        answer = self._in_flight[number] = self._loop.create_future()
        self.send(Handed(number, account, key, body))
        return answer

    def look(self) -> None:
        """Drops a link on which too many looks met no sign of life; else asks for one."""
        if self._silent_looks >= SILENT_LOOKS:
            self.abort()
            return
        self.show_life()
        self._silent_looks += 1

    def data_received(self, data: bytes) -> None:
        self._greeted, self._silent_looks = True, 0
        super().data_received(data)
        if self._leaves and not self._in_flight:
            self.close()

    def heard(self, message: bytes) -> None:
        if not message:
            return
        said = reply(message)
        if said.number == 0:
            self._leaves = True
            return
        waiting = self._in_flight.pop(said.number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(said.answer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        in_flight, self._in_flight = self._in_flight, {}
        for waiting in in_flight.values():
            if not waiting.done():
                waiting.set_exception(unavailable())
