"""One end of a link between two workers: what is sent within one turn of the loop goes together."""

import asyncio
from typing import cast

import structlog

from app.neighbours.frames import SIGN_OF_LIFE, BrokenFrame, Handed, Reply, Splitter, frame

log = structlog.get_logger()


class Stream(asyncio.Protocol):
    """Sends and receives messages; what they mean is the matter of each end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter()
        self._outbox: list[bytes] = []
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Done once nothing can be sent or received any more."""

    def heard(self, message: bytes) -> None:
        """Called with each message; an empty one is a sign of life. Raises BrokenFrame."""
        raise NotImplementedError

    def send(self, message: Handed | Reply) -> None:
        """Lost if the link breaks, as `closed` tells."""
        self._write(frame(message))

    def show_life(self) -> None:
        self._write(SIGN_OF_LIFE)

    def close(self) -> None:
        """Once what was sent is out."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derive from none of them

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._splitter.feed(data):
                self.heard(message)
        except BrokenFrame as error:
            log.error("a neighbour is not understood", error=str(error))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)

    def _write(self, data: bytes) -> None:
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(data)

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        transport = self._transport
        if outbox and transport is not None and not transport.is_closing():
            transport.write(b"".join(outbox))
