"""`GET /v1/live`: the conversation on one socket, in front of the router.

A router's socket object would cost more memory than all that a socket needs here.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import UNSET, UnsetType

from app.auth.tokens import Verifier
from app.auth.types import Principal
from app.clock import Clock
from app.errors import Code, SynclineError
from app.failures import failure
from app.live import frames
from app.live.deliveries import Deliveries
from app.live.hub import Full, Hub
from app.live.socket import LiveSocket, Wire
from app.live.types import ClientFrame, CloseCode, Hello, Ping, Push, Token
from app.socket_protocol import EXTENSION
from app.sync.cursor import Cursor, decode_cursor
from app.sync.exchange import Exchange
from app.sync.types import SyncRequest

log = structlog.get_logger()

PATH = "/v1/live"
BURST_S = 5
"""How many seconds' worth of frames a client may send at once."""
CLOSED_AT_ONCE = 250
CLOSING_PAUSE_S = 0.02
"""At a stop so many sockets are closed, then others have their turn."""


class Refused(Exception):
    """The socket is closed, with this code and reason."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    hello_s: float
    send_s: float
    frame_bytes: int
    frames_per_s: int
    trust_ms: int
    """How long a token is trusted, if it does not expire before."""
    most_waiting: int
    """Sockets that have not said hello."""


class LiveEndpoint:
    """An ASGI app in front of the router, which takes the sockets of one address."""

    def __init__(
        self,
        router: ASGIApp,
        hub: Hub,
        deliveries: Deliveries,
        exchange: Exchange,
        verifier: Verifier,
        clock: Clock,
        limits: EndpointLimits,
    ) -> None:
        self._router = router
        self._hub = hub
        self._deliveries = deliveries
        self._exchange = exchange
        self._verifier = verifier
        self._clock = clock
        self._limits = limits
        self._leaving: deque[LiveSocket] = deque()
        self._closer: asyncio.Task[None] | None = None
        self.waiting = 0
        """Sockets that have not said hello."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.WEBSOCKET or scope["path"] != PATH:
            await self._router(scope, receive, send)
            return
        await receive()
        # A browser cannot read why a handshake failed, so what is refused is refused after it.
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        extensions: Any = scope["extensions"]
        await self._talk(extensions[EXTENSION], receive)

    async def _talk(self, wire: Wire, receive: Receive) -> None:
        socket: LiveSocket | None = None
        try:
            welcome = await self._welcome(wire, receive)
            if welcome is not None:
                self._join(welcome)
                socket = welcome
                wire.trust(self._limits.frame_bytes)
                wire.on_shutdown = partial(self._leave_soon, welcome)
                self._deliveries.add(welcome.account)
                await self._converse(welcome, receive)
        except Refused as refused:
            wire.end(refused.code, refused.reason)
        except Exception:
            log.exception("live.socket_failed")
            wire.end(CloseCode.INTERNAL, "the service failed")
        finally:
            if socket is not None:
                self._hub.leave(socket)
                socket.left()

    # --- the beginning ------------------------------------------------------------------------

    async def _welcome(self, wire: Wire, receive: Receive) -> LiveSocket | None:
        """The socket, once its client has said who it is; None: it went away before."""
        if self.waiting >= self._limits.most_waiting:
            raise Refused(CloseCode.TOO_MANY, "too many sockets have yet to say hello")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._limits.hello_s):
                text = await _next_text(receive)
            if text is None:
                return None
            hello = _read(text)
            if not isinstance(hello, Hello):
                raise Refused(CloseCode.UNAUTHENTICATED, "the first frame has to be a hello")
            return await self._seat(wire, hello)
        except TimeoutError:
            raise Refused(CloseCode.TIMED_OUT, "no hello came") from None
        except SynclineError as error:
            raise Refused(CloseCode.MALFORMED, _short(error)) from error
        finally:
            self.waiting -= 1

    async def _seat(self, wire: Wire, hello: Hello) -> LiveSocket:
        principal = await self._principal(hello.token)
        position = None if hello.cursor is None else decode_cursor(hello.cursor)
        now_ms = self._clock()
        socket = LiveSocket(
            wire,
            id=uuid4(),
            account=principal.account,
            device=hello.device,
            since_ms=now_ms,
            position=position,
            send_s=self._limits.send_s,
            wake=self._deliveries.add,
            frames=self._hub.frames,
        )
        socket.show(self._expiry(principal, now_ms), now_ms)
        return socket

    def _join(self, socket: LiveSocket) -> None:
        try:
            self._hub.join(socket)
        except Full as full:
            raise Refused(CloseCode.TOO_MANY, str(full)) from full

    async def _principal(self, token: str) -> Principal:
        cached = self._verifier.cached(token)
        if cached is not None:
            return cached
        try:
            return await self._verifier.verify(token)
        except SynclineError as error:
            if error.code is Code.KEYS_UNAVAILABLE:
                raise Refused(CloseCode.TRY_AGAIN, error.code) from error
            raise Refused(CloseCode.UNAUTHENTICATED, error.code) from error

    def _expiry(self, principal: Principal, now_ms: int) -> int:
        """A token that never expires is asked for again all the same: its key may be revoked."""
        trusted_ms = now_ms + self._limits.trust_ms
        if principal.expires_at_s is None:
            return trusted_ms
        return int(min(principal.expires_at_s * 1000, trusted_ms))

    # --- the conversation ---------------------------------------------------------------------

    async def _converse(self, socket: LiveSocket, receive: Receive) -> None:
        """Answers frame after frame; while it does, the client's next ones wait."""
        while (text := await _next_text(receive)) is not None:
            self._spend(socket)
            try:
                frame = _read(text)
            except SynclineError as error:
                await socket.answer("problem", frames.problem(error, frames.ref_of(text)))
                continue
            match frame:
                case Push():
                    await self._push(socket, frame, len(text))
                case Ping():
                    await socket.answer("pong", frames.pong(self._clock(), frame.ref))
                case Token():
                    await self._renew(socket, frame)
                case Hello():
                    raise Refused(CloseCode.MALFORMED, "hello was said before")
            if socket.leaving:
                raise Refused(CloseCode.RESTARTING, "the process stops")

    def _spend(self, socket: LiveSocket) -> None:
        rate = self._limits.frames_per_s
        now_s = asyncio.get_running_loop().time()
        earned = (now_s - socket.allowed_at_s) * rate
        socket.allowance = min(socket.allowance + earned, BURST_S * rate) - 1
        socket.allowed_at_s = now_s
        if socket.allowance < 0:
            raise Refused(CloseCode.TOO_MANY, f"more than {rate} frames a second")

    async def _renew(self, socket: LiveSocket, frame: Token) -> None:
        principal = await self._principal(frame.token)
        if principal.account != socket.account:
            raise Refused(CloseCode.FORBIDDEN, "the token is of another account")
        now_ms = self._clock()
        socket.show(self._expiry(principal, now_ms), now_ms)
        await socket.answer("authenticated", frames.authenticated(socket.expires_ms))

    async def _push(self, socket: LiveSocket, push: Push, size: int) -> None:
        socket.busy = True
        try:
            async with self._exchange.gate.passing(socket.account, size):
                answer = await self._exchange.sync(socket.account, _request(push, socket))
        except Exception as error:
            if isinstance(error, SynclineError) and error.code is Code.CURSOR_EXPIRED:
                socket.pulls_itself = True
            document = failure(error, "PUSH", PATH).body
            await socket.answer("problem", frames.problem_text(document, push.ref))
        else:
            await socket.answer("pushed", frames.pushed(answer, push.ref))
            socket.pushed(decode_cursor(answer.cursor), more=answer.more)
        finally:
            socket.release()

    # --- the end ------------------------------------------------------------------------------

    def _leave_soon(self, socket: LiveSocket) -> None:
        """The process stops: what is being answered is answered first."""
        self._leaving.append(socket)
        if self._closer is None or self._closer.done():
            self._closer = asyncio.create_task(self._close_leaving())

    async def _close_leaving(self) -> None:
        while self._leaving:
            for _ in range(min(CLOSED_AT_ONCE, len(self._leaving))):
                self._leaving.popleft().leave("the process stops")
            await asyncio.sleep(CLOSING_PAUSE_S)


async def _next_text(receive: Receive) -> str | None:
    """The next message; None: the connection is over."""
    message: Any = await receive()
    if message["type"] == "websocket.disconnect":
        return None
    text: str | None = message.get("text")
    if text is None:
        raise Refused(CloseCode.UNSUPPORTED_DATA, "frames are text")
    return text


def _read(text: str) -> ClientFrame:
    try:
        return frames.read(text)
    except frames.NotAFrame as error:
        raise Refused(CloseCode.MALFORMED, str(error)) from error


def _short(error: SynclineError) -> str:
    """A reason has at most 123 bytes."""
    return f"{error.code}: {error.detail}".encode()[:120].decode(errors="ignore")


def _request(push: Push, socket: LiveSocket) -> SyncRequest:
    return SyncRequest(
        device=socket.device if isinstance(push.device, UnsetType) else push.device,
        cursor=_cursor(push, socket.position),
        sent_at=push.sent_at,
        previous=push.previous,
        mutations=push.mutations,
        events=push.events,
        limit=push.limit,
        pending=push.pending,
    )


def _cursor(push: Push, position: Cursor | None) -> str | None:
    if push.cursor is not UNSET:
        assert not isinstance(push.cursor, UnsetType)
        return push.cursor
    return None if position is None else position.encode()
