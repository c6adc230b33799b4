"""A connection that says anything, byte by byte, and may read nothing."""

import json
import socket
import struct
import time
from typing import Self
from urllib.parse import urlsplit

from tests.live.talk import Json, token

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """A frame as clients send it; the mask is of zeros."""
    size, masked = len(payload), 128 if mask else 0
    if size < 126:
        head = bytes((fin << 7 | opcode, masked | size))
    elif size < 65_536:
        head = bytes((fin << 7 | opcode, masked | 126)) + struct.pack("!H", size)
    else:
        head = bytes((fin << 7 | opcode, masked | 127)) + struct.pack("!Q", size)
    return head + (b"\0" * 4 if mask else b"") + payload


def hello(account: str, device: str = "raw") -> bytes:
    said = {"type": "hello", "token": token(account), "device": device, "cursor": None}
    return frame(TEXT, json.dumps(said).encode())


class Raw:
    """A socket after its handshake."""

    def __init__(
        self, url: str, *, path: str = "/v1/live", buffer: int | None = None, more: str = ""
    ) -> None:
        address = urlsplit(url)
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.connect((address.hostname, address.port))
        self.socket.sendall(HANDSHAKE.format(path=path, more=more).encode())
        head = b""
        while b"\r\n\r\n" not in head and (byte := self.socket.recv(1)):
            head += byte
        self.status = int(head.split()[1]) if head else None
        self._rest = b""

    def send(self, *data: bytes) -> Self:
        self.socket.sendall(b"".join(data))
        return self

    def until_closed(self, timeout_s: float = 20.0) -> tuple[int, str] | None:
        """Code and reason of the close frame; None where the connection ended without one."""
        deadline = time.monotonic() + timeout_s
        code: tuple[int, str] | None = None
        while (found := self._next(deadline)) is not None:
            opcode, payload = found
            if opcode == CLOSE:
                code = (struct.unpack("!H", payload[:2])[0], payload[2:].decode())
        return code

    def texts(self, seconds: float) -> list[Json]:
        """The text frames that come within some time."""
        found, deadline = [], time.monotonic() + seconds
        try:
            while (one := self._next(deadline)) is not None:
                if one[0] == TEXT:
                    found.append(json.loads(one[1]))
        except TimeoutError:
            pass
        return found

    def _next(self, deadline: float) -> tuple[int, bytes] | None:
        """A whole frame; half of one is kept for the next time."""
        try:
            self._fill(2, deadline)
            size, start = self._rest[1] & 127, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                self._fill(start, deadline)
                size = int.from_bytes(self._rest[2:start], "big")
            self._fill(start + size, deadline)
        except (EOFError, ConnectionError):
            return None
        found = self._rest[0] & 15, self._rest[start : start + size]
        self._rest = self._rest[start + size :]
        return found

    def _fill(self, size: int, deadline: float) -> None:
        """Reads until there is so much."""
        while len(self._rest) < size:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self.socket.settimeout(left_s)
            data = self.socket.recv(65_536)
            if not data:
                raise EOFError
            self._rest += data

    def close(self) -> None:
        self.socket.close()
