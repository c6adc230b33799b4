"""A client of the live socket that costs as little as it can: thousands of them in one process."""

import asyncio
import resource
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

_HANDSHAKE = (
    "GET /v1/live HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: c3luY2xpbmUtYmVuY2gtMQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class LiveClient(asyncio.Protocol):
    """Says hello when it is connected. `on_text` gets each frame, `on_lost` the code and reason
    of a close frame, None where there was none."""

    def __init__(
        self,
        host: str,
        hello: bytes,
        on_text: "Callable[[LiveClient, bytes], None]",
        on_lost: "Callable[[LiveClient, tuple[int, str] | None], None]",
    ) -> None:
        self._host = host
        self._hello = hello
        self._on_text = on_text
        self._on_lost = on_lost
        self._transport: Any = None
        self._buffer = b""
        self._upgraded = False
        self._closed: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(_HANDSHAKE.format(host=self._host).encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.cut()
                return
            self._upgraded, self._buffer = True, rest
            self.send(TEXT, self._hello)
        while (frame := self._next()) is not None:
            self._take(*frame)

    def _next(self) -> tuple[int, bytes] | None:
        """The next whole frame; the service sends none in fragments."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[0] & 15, buffer[start : start + size]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._on_text(self, payload)
        elif opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            self._closed = (int.from_bytes(payload[:2], "big"), payload[2:].decode())
            self._transport.close()

    def send(self, opcode: int, payload: bytes) -> None:
        """Masked with zeros, which is no mask, and allowed."""
        size = len(payload)
        if size < 126:
            head = bytes((128 | opcode, 128 | size))
        elif size < 65_536:
            head = bytes((128 | opcode, 254)) + size.to_bytes(2, "big")
        else:
            head = bytes((128 | opcode, 255)) + size.to_bytes(8, "big")
        self._transport.write(head + b"\0\0\0\0" + payload)

    def cut(self) -> None:
        """As a lost connection looks: no goodbye."""
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost(self, self._closed)


def hello(token: str, device: str, cursor: str | None = None) -> bytes:
    return msgspec.json.encode(
        {"type": "hello", "token": token, "device": device, "cursor": cursor}
    )


async def connect(url: str, client: Callable[[str], LiveClient]) -> LiveClient:
    """Raises OSError. `client` makes one for a host."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(
        lambda: client(address.netloc), address.hostname or "", address.port or 80
    )
    return protocol


def allow_many_files() -> None:
    """As many as this user may have: each socket takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
