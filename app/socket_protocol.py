"""The server's WebSocket protocol, bounded, and with a handle for the app.

uvicorn's own waits for ever for a peer that reads nothing, answers any number of pings into a
buffer without end, and keeps the fragments of a message however many they are.
"""

import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

EXTENSION = "syncline.wire"
"""Where a scope has its protocol, among its extensions."""
UNTRUSTED_BYTES = 16 * 1024
"""Size of a message before the app knows who sends it; the longest token fits."""
MOST_UNSENT_BYTES = 256 * 1024
"""What may wait for a peer that asks for pongs and does not take them."""
MOST_PINGS = 100
"""From a peer, between two pings of ours, or in all where we send none."""
MOST_FRAGMENTS = 1_000
"""Of one message."""
CLOSING_S = 3.0
"""How long a peer may take to read what was sent and to say goodbye."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One connection. What it offers the app is safe to call at any time and never waits."""

    on_shutdown: Callable[[], None] | None = None
    """Called instead of closing at once when the server stops; the app then closes by itself."""
    _pings = 0
    _unsent_at_ping = 0

    # --- for the app --------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self.close_sent or self.disconnected or self.transport.is_closing()

    @property
    def is_writable(self) -> bool:
        """Whether the peer takes what is sent; always so once it is gone."""
        return self.writable.is_set()

    async def until_writable(self) -> None:
        await self.writable.wait()

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not acknowledged: it becomes less while a slow one reads."""
        socket = self.transport.get_extra_info("socket")
        if socket is None or self.closed:
            return 0
        try:
            (queued,) = struct.unpack(
                "i", fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, b"\0" * 4)
            )
        except (OSError, ValueError):  # not every kind of socket says
            queued = 0
        return int(queued) + self.transport.get_write_buffer_size()

    def write(self, text: bytes) -> bool:
        """Sends a text message, whether the peer takes it or not; False: it is gone."""
        if self.closed:
            return False
        try:
            self.conn.send_text(text)
        except InvalidState:
            return False
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def trust(self, max_bytes: int) -> None:
        """From now on messages may be so large."""
        self.conn.max_message_size = max_bytes

    def end(self, code: int, reason: str) -> None:
        """Closes; the app's next `receive` tells it so. A peer that does not react is cut off."""
        if self.closed:
            return
        self.stop_keepalive()
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            self.transport.abort()
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSING_S, self.transport.abort)

    # --- what the server calls ----------------------------------------------------------------

    def handle_connect(self, event: Any) -> None:
        self.conn.max_message_size = UNTRUSTED_BYTES
        self.close_timeout = CLOSING_S
        super().handle_connect(event)

    async def run_asgi(self) -> None:
        self._extensions()[EXTENSION] = self
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # Its parser refused the request; it waits for another one that cannot come.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_utf8(self.frames):
            self.frames = []  # else it would be logged as if the service had failed
            self.end(1007, "text has to be UTF-8")
            return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        self._pings += 1
        if self._pings > MOST_PINGS:
            self.end(4429, "too many pings")
        elif self.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self.transport.abort()
        else:
            super().handle_ping()

    def send_keepalive_ping(self) -> None:
        self._pings = 0
        super().send_keepalive_ping()
        self._unsent_at_ping = self.unsent_bytes

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= MOST_FRAGMENTS:
            self.frames = []
            self.end(1009, f"a message may come in {MOST_FRAGMENTS} fragments")
            return
        super().handle_cont(event)

    def keepalive_timeout(self) -> None:
        """Ends a peer that is gone without a word; not one whose pong we do not read just now, nor
        one that still reads what was sent before the ping."""
        unsent, before = self.unsent_bytes, self._unsent_at_ping
        self._unsent_at_ping = unsent
        if (self.read_paused or unsent < before) and not self.closed:
            assert self.ping_timeout is not None
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        self.pong_timer = None
        self.end(4408, "no pong came")

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._cut_off_later()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent:
            self._cut_off_later()

    def shutdown(self) -> None:
        if self.on_shutdown is not None and not self.closed:
            self.on_shutdown()
            return
        super().shutdown()
        self._cut_off_later()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._cut_off_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.on_shutdown = None
        if hasattr(self, "scope"):
            self._extensions().pop(EXTENSION, None)

    def _extensions(self) -> dict[str, Any]:
        extensions: dict[str, Any] = self.scope["extensions"]
        return extensions

    def _cut_off_later(self) -> None:
        """A peer that reads nothing would keep what was sent, and the connection with it."""
        self.loop.call_later(CLOSING_S, self.transport.abort)


def _is_utf8(fragments: list[bytes]) -> bool:
    try:
        b"".join(fragments).decode()
    except UnicodeDecodeError:
        return False
    return True
