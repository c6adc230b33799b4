"""python-socketio's server within the limits that every socket here has, mounted at /socket.io.

The library speaks the protocol. It has no bound on what waits for a client, on binary parts, on
connections that never say who they are, nor on how often a client speaks: those are set here,
around the handlers of its transport.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from app import problems
from app.failures import failure

try:
    import socketio
except ImportError:  # the extra `socketio` is not installed
    socketio = None

log = structlog.get_logger()

PATH = "/socket.io"
SWEEP_S = 1.0
MOST_QUEUED = 64
"""Packets that wait for a client. One that asks for more answers than it takes is dropped."""
CROWDED = 8
"""Packets that wait for a client, past which it is sent no news before it has taken them."""
BINARY = ("5", "6")
"""The packets of Socket.IO that announce binary parts, which no event here has."""

# What clients do wrong is no trouble of the operator's: the library would log every bad frame.
_silent = logging.getLogger("syncline.socketio")
_silent.setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class EngineLimits:
    """Seconds, bytes, and connections of one process."""

    sockets: int
    frame_bytes: int
    hello_s: float
    """Until which a connection must have shown a token."""
    send_s: float
    """Until which a client must have taken what it was sent."""
    ping_s: float
    ping_timeout_s: float
    frames_per_s: float
    frames_at_once: int


@dataclass(slots=True, eq=False)
class Connection:
    """One transport of a client, and whom it belongs to once that is known."""

    id: str
    allowance: float
    """Frames that it may send at once."""
    since_s: float = field(default_factory=time.monotonic)
    """When it opened, or was last without an account."""
    refilled_s: float = field(default_factory=time.monotonic)
    waits_since_s: float | None = None
    """Since when something waits to be taken."""
    owner: Any = None


class Engine:
    """The transports of this process.

    `on_closed` is told of each one that had an owner and is gone; `on_swept` is called each second.
    """

    def __init__(self, limits: EngineLimits, *, polling: bool) -> None:
        """Without `polling`, clients have to begin with a WebSocket."""
        assert socketio is not None, "the extra `socketio` is installed"
        self._limits = limits
        self.connections: dict[str, Connection] = {}
        self.on_closed: Callable[[Connection], None] = lambda _: None
        self.on_swept: Callable[[], None] = lambda: None
        self._closing = False
        self._sweeper: asyncio.Task[None] | None = None
        self._drops: set[asyncio.Task[None]] = set()
        self.server = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # the events of a client one by one: it waits for its answers
            transports=["polling", "websocket"] if polling else ["websocket"],
            cors_allowed_origins="*",  # nothing here is trusted but a token that a script sends
            cors_credentials=False,
            http_compression=False,
            max_http_buffer_size=limits.frame_bytes,
            ping_interval=limits.ping_s,
            ping_timeout=limits.ping_timeout_s,
            json=_Json,
            logger=_silent,
            engineio_logger=_silent,
        )
        self._transport = self.server.eio
        self._inner: dict[str, Callable[..., Awaitable[Any]]] = dict(self._transport.handlers)
        self._transport.on("connect", self._opened)
        self._transport.on("message", self._message)
        self._transport.on("disconnect", self._closed)

    def mounted(self, app: ASGIApp) -> ASGIApp:
        """The app, with this one before it at its path."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path", "")
            if path == PATH or path.startswith(PATH + "/"):
                await self._serve(scope, receive, send)
            else:
                await app(scope, receive, send)

        return serve

    def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Closes every transport, so that clients connect again elsewhere by themselves."""
        self.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, *self._drops, return_exceptions=True)
        await self._transport.shutdown()

    def close(self) -> None:
        """Refuses new connections from now on, and ends those that are open."""
        self._closing = True
        for connection in list(self.connections.values()):
            self.drop(connection)

    async def emit(self, event: str, data: Any, sid: str) -> None:
        await self.server.emit(event, data, to=sid)

    def crowded(self, connection: Connection) -> bool:
        """Whether the client has not taken what it was sent; it is told when it has."""
        return self._queued(connection) > CROWDED

    def drop(self, connection: Connection) -> None:
        """Ends the transport; nothing is waited for."""
        self._forget(connection)
        task = asyncio.create_task(self._end(connection.id))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def _end(self, id: str) -> None:
        socket = self._transport.sockets.get(id)
        if socket is not None:
            await socket.close(wait=False)
            socket.queue.put_nowait(None)  # without it the writer would wait for the client

    def _queued(self, connection: Connection) -> int:
        socket = self._transport.sockets.get(connection.id)
        return 0 if socket is None else socket.queue.qsize()

    def _forget(self, connection: Connection) -> None:
        self.connections.pop(connection.id, None)
        if connection.owner is not None:
            self.on_closed(connection)
            connection.owner = None

    # --- around the handlers of the library ---------------------------------------------------

    async def _opened(self, id: str, environ: dict[str, Any]) -> Any:
        if self._closing:
            return "The service is stopping."
        if len(self.connections) >= self._limits.sockets:
            return "There are too many sockets."
        self.connections[id] = Connection(id, self._limits.frames_at_once)
        return await self._inner["connect"](id, environ)

    async def _message(self, id: str, data: Any) -> None:
        connection = self.connections.get(id)
        if connection is None:
            return
        if not isinstance(data, str) or data.startswith(BINARY) or not self._allowed(connection):
            self.drop(connection)
            return
        try:
            await self._inner["message"](id, data)
        except Exception as error:  # what the library says to garbage
            log.info("socketio.garbage", error=type(error).__name__)
            self.drop(connection)

    async def _closed(self, id: str, reason: str) -> None:
        connection = self.connections.get(id)
        if connection is not None:
            self._forget(connection)
        await self._inner["disconnect"](id, reason)

    def _allowed(self, connection: Connection) -> bool:
        """Whether the client keeps within its rate, and takes its answers."""
        now_s = time.monotonic()
        earned = (now_s - connection.refilled_s) * self._limits.frames_per_s
        connection.allowance = min(self._limits.frames_at_once, connection.allowance + earned) - 1
        connection.refilled_s = now_s
        return connection.allowance >= 0 and self._queued(connection) <= MOST_QUEUED

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = time.monotonic()
            for connection in list(self.connections.values()):
                if self._is_over(connection, now_s):
                    self.drop(connection)
            try:
                self.on_swept()
            except Exception:
                log.exception("socketio.sweep_failed")

    def _is_over(self, connection: Connection, now_s: float) -> bool:
        if connection.id not in self._transport.sockets:
            return True
        if connection.owner is None and now_s - connection.since_s > self._limits.hello_s:
            return True
        if not self._queued(connection):
            connection.waits_since_s = None
        elif connection.waits_since_s is None:
            connection.waits_since_s = now_s
        waits_since_s = connection.waits_since_s
        return waits_since_s is not None and now_s - waits_since_s > self._limits.send_s

    # --- requests -----------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def timed(message: Message) -> None:
            nonlocal started
            started = True
            async with asyncio.timeout(self._limits.send_s):
                await send(message)

        try:
            await self.server.handle_request(scope, receive, timed)
        except Exception as error:
            log.warning("socketio.request_failed", error=type(error).__name__)
            if scope["type"] == ScopeType.HTTP and not started:
                await _answer_failure(error, scope, send)  # type: ignore[arg-type]


async def _answer_failure(error: Exception, scope: HTTPScope, send: Send) -> None:
    status, _, body = failure(error, scope["method"], scope["path"])
    headers = [(b"content-type", problems.MEDIA_TYPE.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class _Json:
    """JSON for the library: Python's own takes NaN, and any depth until it fails."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ValueError("not JSON") from error
