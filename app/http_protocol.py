"""The server's HTTP protocol, with bounded headers, problem documents for what is no HTTP, and
answers that leave in one piece.

uvicorn's own takes headers of any size before anybody asks for a token, and joins what comes of
an unfinished one anew with each packet, so that a few megabytes stall the process for seconds.
"""

import weakref
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from app import problems
from app.answer import WHOLE, Answer
from app.errors import Code, SynclineError


class HeadersTooLarge(Exception):
    """Ends the parsing of a request from within the parser's callbacks."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Takes `h11_max_incomplete_event_size` of the configuration, which uvicorn heeds for another
    parser only, as the bound of a request's address and headers."""

    _head_bytes = 0
    """Of the address and the headers that are whole."""
    _silent_bytes = 0
    """What came since the parser last understood something: the part of a header, perhaps."""
    _too_large = False

    @property
    def _limit(self) -> int:
        limit = self.config.h11_max_incomplete_event_size
        assert limit is not None
        return limit

    def data_received(self, data: bytes) -> None:
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > self._limit and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")

    def on_message_begin(self) -> None:
        self._head_bytes = self._silent_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._silent_bytes = 0
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:  # else it becomes a socket
            # The cycle holds the scope: holding it here as well would leave both to the collector.
            extensions: Any = {WHOLE: partial(_send_whole, weakref.ref(self.cycle))}
            self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        self._silent_bytes = 0
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._silent_bytes = 0
        self._head_bytes += size
        if self._head_bytes > self._limit:
            self._too_large = True
            raise HeadersTooLarge

    def send_400_response(self, msg: str) -> None:
        """Answers what never becomes a request, and closes the connection."""
        if self._too_large:
            detail = f"The address and the headers may have {self._limit} bytes together."
            error = SynclineError(Code.HEADERS_TOO_LARGE, detail, limit=self._limit)
        else:
            detail = "What was sent is no HTTP/1.1 request; the connection is closed."
            error = SynclineError(Code.INVALID_REQUEST, detail)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(_answer(error))
        self.transport.close()


def _send_whole(of: "weakref.ref[RequestResponseCycle]", answer: Answer) -> bool:
    """Sends head and body at once; False, and nothing sent, where the peer takes no more for now.

    `cycle.send` writes them one after the other, and a write is the dearest part of an answer.
    What it does at the end of an answer is done here as well.
    """
    cycle = of()
    if cycle is None or cycle.disconnected:
        return True
    if cycle.flow.write_paused:
        return False
    text = [STATUS_LINE[answer.status]]
    for name, value in (*cycle.default_headers, *answer.all_headers()):
        text += (name, b": ", value, b"\r\n")
    text.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
    text.append(answer.body)
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"".join(text))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _answer(error: SynclineError) -> bytes:
    status = HTTPStatus(problems.STATUS[error.code])
    body = problems.render(error)
    headers: dict[str, Any] = {
        "content-type": problems.MEDIA_TYPE,
        "content-length": len(body),
        "connection": "close",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + body
