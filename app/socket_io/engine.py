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
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qs

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from app import problems
from app.errors import Code, SynclineError
from app.failures import failure
from app.live.endpoint import BURST_S, CLOSED_AT_ONCE, CLOSING_PAUSE_S
from app.live.socket import Wire
from app.live.types import CloseCode
from app.socket_protocol import EXTENSION

log = structlog.get_logger()

PATH = "/socket.io"
SWEEP_S = 1.0
MOST_QUEUED = 64
"""Packets that wait for a client. One that asks for more answers than it takes is dropped."""
CROWDED = 8
"""Packets that wait for a client, past which it is sent no news before it has taken them."""
MOST_IN_A_REQUEST = 10_000
"""Packets in one request of a client that polls. Past the library's own limit of 16 it loses them
all and answers that all is well; here the rate ends a connection that sends too many."""
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
    frames_per_s: int


@dataclass(slots=True, eq=False)
class Connection:
    """One transport of a client, and whom it belongs to once that is known."""

    id: str
    allowance: float
    """Frames that it may send at once."""
    wire: Wire | None = None
    """None while the client polls."""
    is_trusted: bool = False
    since_s: float = field(default_factory=time.monotonic)
    """When it opened, or was last without an account."""
    refilled_s: float = field(default_factory=time.monotonic)
    waits_since_s: float | None = None
    """Since when something waits, of which nothing was taken."""
    unsent_bytes: int = 0
    """At the last look."""
    owner: Any = None

    def takes_some(self) -> bool:
        """Whether the client has taken some of what waits since this was asked last: slow is no
        reason to end it."""
        before = self.unsent_bytes
        self.unsent_bytes = 0 if self.wire is None else self.wire.unsent_bytes
        return self.unsent_bytes < before

    def attach(self, wire: Wire, max_bytes: int) -> None:
        """It speaks by a WebSocket from now on."""
        self.wire = wire
        if self.is_trusted:
            wire.trust(max_bytes)

    def trust(self, max_bytes: int) -> None:
        """It has shown who it is, so its frames may be so large."""
        self.is_trusted = True
        if self.wire is not None:
            self.wire.trust(max_bytes)


class Engine:
    """The transports of this process.

    `on_closed` is told of each one that had an owner and is gone; `on_swept` is called each second.
    """

    def __init__(
        self, limits: EngineLimits, *, polling: bool, stopping: Callable[[], bool]
    ) -> None:
        """Without `polling`, clients have to begin with a WebSocket. `stopping` tells that the
        process does, before it waits for the requests of those that poll."""
        # Nobody who does without it pays for it: it takes 10 MB.
        library = import_module("socketio")
        import_module("engineio.payload").Payload.max_decode_packets = MOST_IN_A_REQUEST
        self._refused: type[Exception] = library.exceptions.ConnectionRefusedError
        self.limits = limits
        self._stopping = stopping
        self.connections: dict[str, Connection] = {}
        self.on_closed: Callable[[Connection], None] = lambda _: None
        self.on_swept: Callable[[], None] = lambda: None
        self._closing = False
        self._sweeper: asyncio.Task[None] | None = None
        self._farewell: asyncio.Task[None] | None = None
        self._drops: set[asyncio.Task[None]] = set()
        self.server = library.AsyncServer(
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
        # The library's own waits for the client to take what it was sent, for ever.
        self._transport.disconnect = self._end
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
        tasks = [one for one in (self._sweeper, self._farewell) if one is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self._drops, return_exceptions=True)
        await self._transport.shutdown()

    def close(self) -> None:
        """Refuses new connections from now on, and ends those that are open."""
        self._closing = True
        if self._farewell is None:
            self._farewell = asyncio.create_task(self._say_farewell())

    async def _say_farewell(self) -> None:
        for number, connection in enumerate(list(self.connections.values()), start=1):
            self.drop(connection, CloseCode.RESTARTING, "the process stops")
            if number % CLOSED_AT_ONCE == 0:
                await asyncio.sleep(CLOSING_PAUSE_S)

    async def emit(self, event: str, data: Any, sid: str) -> None:
        await self.server.emit(event, data, to=sid)

    def refusal(self, detail: str, problem: dict[str, Any]) -> Exception:
        """What a handler of `connect` raises: the client's `connect_error` has both."""
        return self._refused(detail, problem)

    def crowded(self, connection: Connection) -> bool:
        """Whether the client has yet to take what it was sent."""
        return self.queued(connection) > CROWDED or not _is_writable(connection)

    def drop(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """Ends the transport; nothing is waited for."""
        self._forget(connection)
        if connection.wire is not None:
            connection.wire.end(code, reason)
        # The library's part of it: a client may poll, or be about to upgrade.
        task = asyncio.create_task(self._end(connection.id))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def _end(self, id: str) -> None:
        socket = self._transport.sockets.pop(id, None)
        if socket is not None:
            await socket.close(wait=False)
            socket.queue.put_nowait(None)  # an upgrade may have begun, whose writer would wait

    def queued(self, connection: Connection) -> int:
        """Packets that wait until the client takes the one before."""
        socket = self._transport.sockets.get(connection.id)
        return 0 if socket is None else int(socket.queue.qsize())

    def disown(self, connection: Connection) -> None:
        """Its client left it without closing it, and may say again who it is."""
        connection.since_s = time.monotonic()
        if connection.owner is not None:
            self.on_closed(connection)
            connection.owner = None

    def _forget(self, connection: Connection) -> None:
        self.connections.pop(connection.id, None)
        self.disown(connection)

    # --- around the handlers of the library ---------------------------------------------------

    async def _opened(self, id: str, environ: dict[str, Any]) -> Any:
        if self._closing:
            return "The service is stopping."
        if len(self.connections) >= self.limits.sockets:
            return "There are too many sockets."
        self.connections[id] = Connection(id, BURST_S * self.limits.frames_per_s)
        self._attach(id, environ["asgi.scope"])
        return await self._inner["connect"](id, environ)

    def _attach(self, id: str, scope: Any) -> None:
        connection = self.connections.get(id)
        if connection is None or scope["type"] != ScopeType.WEBSOCKET:
            return
        if connection.wire is None or connection.wire.closed:
            wire: Wire = scope["extensions"][EXTENSION]
            wire.on_shutdown = self.close
            connection.attach(wire, self.limits.frame_bytes)

    async def _message(self, id: str, data: Any) -> None:
        connection = self.connections.get(id)
        if connection is None:
            return
        if not isinstance(data, str) or data.startswith(BINARY):
            self.drop(connection, CloseCode.UNSUPPORTED_DATA, "no event has binary parts")
        elif not self._allowed(connection):
            self.drop(connection, CloseCode.TOO_MANY, "too many frames")
        else:
            try:
                await self._inner["message"](id, data)
            except Exception as error:  # what the library says to garbage
                log.info("socketio.garbage", error=type(error).__name__)
                self.drop(connection, CloseCode.MALFORMED, "no packet of Socket.IO")

    async def _closed(self, id: str, reason: str) -> None:
        connection = self.connections.get(id)
        if connection is not None:
            self._forget(connection)
        await self._inner["disconnect"](id, reason)

    def _allowed(self, connection: Connection) -> bool:
        """Whether the client keeps within its rate, and takes its answers."""
        now_s = time.monotonic()
        earned = (now_s - connection.refilled_s) * self.limits.frames_per_s
        most = BURST_S * self.limits.frames_per_s
        connection.allowance = min(most, connection.allowance + earned) - 1
        connection.refilled_s = now_s
        return connection.allowance >= 0 and self.queued(connection) <= MOST_QUEUED

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                if self._stopping():
                    self.close()
                for connection in list(self.connections.values()):
                    self._look_at(connection, time.monotonic())
                self.on_swept()
            except Exception:
                log.exception("socketio.sweep_failed")

    def _look_at(self, connection: Connection, now_s: float) -> None:
        """Ends a connection that is over, or of which nothing good is to be expected."""
        if connection.id not in self._transport.sockets:
            self._forget(connection)
        elif connection.owner is None and now_s - connection.since_s > self.limits.hello_s:
            self.drop(connection, CloseCode.TIMED_OUT, "no token came")
        elif not self.queued(connection) and _is_writable(connection):
            connection.waits_since_s = None
        elif connection.waits_since_s is None or connection.takes_some():
            connection.waits_since_s = now_s
        elif now_s - connection.waits_since_s > self.limits.send_s:
            self.drop(connection, CloseCode.TIMED_OUT, "frames are not taken")

    # --- requests -----------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            # An upgrade names the connection that it belongs to.
            named = parse_qs(scope["query_string"].decode("latin-1")).get("sid")
            if named is not None:
                self._attach(named[0], scope)
            await self.server.handle_request(scope, receive, note)
        except Exception as error:
            # Our own handlers raise nothing; the library raises for requests of no use to it.
            log.info("socketio.request_refused", error=type(error).__name__)
            if scope["type"] == ScopeType.HTTP and not started:
                await _refuse(scope, send)


def _is_writable(connection: Connection) -> bool:
    return connection.wire is None or connection.wire.is_writable


def is_installed() -> bool:
    """Whether the extra `socketio` is."""
    return find_spec("socketio") is not None


async def _refuse(scope: Any, send: Send) -> None:
    error = SynclineError(Code.INVALID_REQUEST, "The session is over, or this is no part of one.")
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
