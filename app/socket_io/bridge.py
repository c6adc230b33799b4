"""The events of apps that speak Socket.IO, over the hub and the documents that all others use.

From the client: `presence:join`, `presence:ping`, `user:clientUpdate`. To it: `user:data:updated`
(the stats, to who asked), `user:update` (the stats, to all sockets of the account when they
changed), `presence:pong`, `user:problem`. There is one path for writes, so an update is a PATCH.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import msgspec
import structlog

from app.auth.tokens import Verifier
from app.auth.types import Principal
from app.clock import Clock
from app.database.retry import is_database_trouble
from app.documents.documents import Documents
from app.documents.model import Snapshot
from app.documents.types import Device
from app.errors import Code, SynclineError
from app.failures import failure
from app.live.hub import Full, Hub
from app.live.types import CloseCode
from app.socket_io import stats
from app.socket_io.engine import PATH, Connection, Engine

log = structlog.get_logger()

DEVICE = "socketio"
"""For whom the service counts where a client names no device. Its updates are operations on the
document as it is, so all clients of an account may share it."""
RETRY_S = 1.0
NOTHING, BEHIND = object(), object()
"""A client that was sent no stats yet, and one that has yet to take what it was sent."""


class Handshake(msgspec.Struct):
    """`auth` of the client's handshake."""

    token: str | None = None
    device: Device | None = None


class Client:
    """A Socket.IO client of an account: a subscriber of the hub."""

    __slots__ = (
        "_room",
        "account",
        "answered",
        "connection",
        "device",
        "id",
        "seen",
        "sid",
        "since_ms",
        "until_ms",
    )

    def __init__(
        self,
        room: "Room",
        connection: Connection,
        sid: str,
        principal: Principal,
        device: str,
        now_ms: int,
        until_ms: int,
    ) -> None:
        self.id: UUID = uuid4()
        self.account = principal.account
        self.device = device
        self.since_ms = now_ms
        self.until_ms = until_ms
        """When it has to show a token again, which it does by connecting again."""
        self.connection = connection
        self.sid = sid
        self.seen: object = NOTHING
        """The version and time of the stats that it was sent; None: that there are none."""
        self.answered = 0
        """The version that its last update made."""
        self._room = room

    def changed(self, seq: int | None) -> None:
        self._room.wake()

    def present(self, frame: bytes) -> None:
        """These apps are not told who else is there."""


Work = Callable[[Client], Awaitable[dict[str, Any]]]
"""What an event asks for; the acknowledgement that it comes to."""


class Room:
    """The clients of one account. A task reads and tells while there is something to tell."""

    def __init__(self, account: str, bridge: "Bridge") -> None:
        self.account = account
        self.clients: list[Client] = []
        self._bridge = bridge
        self.is_wanted = False
        """Whether something changed that was not read yet."""
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """What changes while the task reads is read again."""
        self.is_wanted = True
        if self._task is None:
            self._task = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self.is_wanted and self.clients:
                self.is_wanted = False
                try:
                    await self._bridge.tell(self)
                except Exception as error:
                    if not (isinstance(error, SynclineError) or is_database_trouble(error)):
                        log.exception("socketio.tell_failed")
                    self.is_wanted = True
                    await asyncio.sleep(random.uniform(RETRY_S / 2, RETRY_S))  # noqa: S311
        finally:
            self._task = None

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Bridge:
    """Events in, events out."""

    def __init__(
        self,
        engine: Engine,
        hub: Hub,
        documents: Documents,
        verifier: Verifier,
        clock: Clock,
        *,
        trust_ms: int,
    ) -> None:
        """`trust_ms`: how long a token is trusted, if it does not expire before."""
        self._engine = engine
        self._hub = hub
        self._documents = documents
        self._verifier = verifier
        self._clock = clock
        self._trust_ms = trust_ms
        self._rooms: dict[str, Room] = {}
        self._clients: dict[str, Client] = {}
        engine.on_closed = self._leave
        engine.on_swept = self._look
        server = engine.server
        server.on("connect", self._connect)
        server.on("disconnect", self._disconnect)
        server.on("presence:join", self._join)
        server.on("presence:ping", self._ping)
        server.on("user:clientUpdate", self._update)

    # --- coming and going ---------------------------------------------------------------------

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        try:
            await self._admit(sid, environ, auth)
        except Exception as error:
            problem = _problem(error, reads=True)
            raise self._engine.refusal(problem["detail"], problem) from None

    async def _admit(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        shaken = _handshake(auth)
        token = _token(shaken, environ)
        principal = self._verifier.cached(token) or await self._verifier.verify(token)
        # No waiting from here on: the transport is there, or it is not.
        id = self._engine.server.manager.eio_sid_from_sid(sid, "/")
        connection = self._engine.connections.get(id)
        if connection is None or connection.owner is not None:
            raise SynclineError(Code.SHUTTING_DOWN, "The connection is gone.")
        room = self._rooms.get(principal.account) or Room(principal.account, self)
        device, now_ms = shaken.device or DEVICE, self._clock()
        until_ms = now_ms + self._trust_ms
        if principal.expires_at_s is not None:
            until_ms = min(until_ms, int(principal.expires_at_s * 1000))
        client = Client(room, connection, sid, principal, device, now_ms, until_ms)
        try:
            self._hub.join(client)
        except Full as full:
            raise SynclineError(Code.OVERLOADED, f"No more than that: {full}.") from full
        connection.owner = client
        connection.trust(self._engine.limits.frame_bytes)
        self._rooms[principal.account] = room
        self._clients[sid] = client
        room.clients.append(client)
        room.wake()

    async def _disconnect(self, sid: str, reason: str) -> None:
        client = self._clients.get(sid)
        if client is not None:
            self._engine.disown(client.connection)

    def _leave(self, connection: Connection) -> None:
        client: Client = connection.owner
        del self._clients[client.sid]
        room = self._rooms[client.account]
        room.clients.remove(client)
        if not room.clients:
            room.stop()
            del self._rooms[client.account]
        self._hub.leave(client)

    def _look(self) -> None:
        """Ends those whose token has expired, and tells those that were behind."""
        now_ms = self._clock()
        for client in list(self._clients.values()):
            if client.until_ms <= now_ms:
                reason = "the token has to be shown again"
                self._engine.drop(client.connection, CloseCode.UNAUTHENTICATED, reason)
            elif client.seen is BEHIND and not self._engine.crowded(client.connection):
                self._rooms[client.account].wake()

    # --- telling ------------------------------------------------------------------------------

    async def tell(self, room: Room) -> None:
        """Sends the stats to the clients that do not have them; raises SynclineError."""
        document = await self._read(room.account)
        # After a restore another state may bear a version that was told before.
        found = None if document is None else (document.version, document.updated_at_ms)
        data = stats.shown(document)
        for client in tuple(room.clients):
            if client.seen == found:
                continue
            if room.is_wanted and client.answered > (found or (0, 0))[0]:
                continue  # it has seen what this read did not; the next one will
            if self._engine.crowded(client.connection):
                client.seen = BEHIND
                continue
            first, client.seen = client.seen is NOTHING, found
            if document is not None or not first:
                await self._send(client, "user:update", data)

    async def _read(self, account: str) -> Snapshot | None:
        try:
            return await self._documents.read(account, stats.KEY)
        except SynclineError as error:
            if error.code in (Code.DOCUMENT_NOT_FOUND, Code.DOCUMENT_DELETED):
                return None
            raise

    async def _send(self, client: Client, event: str, data: Any) -> None:
        self._hub.frames[event] += 1
        await self._engine.emit(event, data, client.sid)

    # --- events -------------------------------------------------------------------------------

    async def _ping(self, sid: str, *_: Any) -> None:
        client = self._clients.get(sid)
        if client is not None:
            now = datetime.fromtimestamp(self._clock() / 1000, UTC)
            timestamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            await self._send(client, "presence:pong", {"timestamp": timestamp})

    async def _join(self, sid: str, payload: Any = None, *_: Any) -> dict[str, Any]:
        async def join(client: Client) -> dict[str, Any]:
            stats.refuse_other_account(payload, client.account)
            document = await self._read(client.account)
            await self._send(client, "user:data:updated", stats.shown(document))
            return {"ok": True}

        return await self._answer(sid, payload, join, reads=True)

    async def _update(self, sid: str, payload: Any = None, *_: Any) -> dict[str, Any]:
        async def update(client: Client) -> dict[str, Any]:
            patch = stats.patch_of(payload, client.account, client.device)
            mutation = self._documents.intake.patch(stats.KEY, patch, self._clock())
            decision = await self._documents.write(client.account, mutation)
            document = decision.document
            assert document is not None
            client.answered = document.version
            await self._send(client, "user:data:updated", stats.shown(document))
            return {"ok": True, "outcome": decision.outcome, "version": document.version}

        return await self._answer(sid, payload, update)

    async def _answer(
        self, sid: str, payload: Any, work: Work, *, reads: bool = False
    ) -> dict[str, Any]:
        """What the client's acknowledgement says; a problem is an event, too."""
        client = self._clients.get(sid)
        if client is None:
            return {"ok": False}
        try:
            return await work(client)
        except Exception as error:
            problem = _problem(error, reads=reads)
        id = payload.get("id") if isinstance(payload, dict) else None
        await self._send(client, "user:problem", {"id": id, "problem": problem})
        return {"ok": False, "problem": problem}


def _problem(error: Exception, *, reads: bool) -> dict[str, Any]:
    """As it would be answered to a request."""
    body = failure(error, "GET" if reads else "PATCH", PATH).body
    problem: dict[str, Any] = msgspec.json.decode(body)
    return problem


def _handshake(auth: Any) -> Handshake:
    if not isinstance(auth, dict):
        return Handshake()
    try:
        return msgspec.convert(auth, Handshake)
    except msgspec.ValidationError as error:
        raise SynclineError(Code.INVALID_REQUEST, f"The handshake's `auth`: {error}.") from error


def _token(shaken: Handshake, environ: Mapping[str, Any]) -> str:
    """Of the handshake, of its header, or of its query, in this order; raises TOKEN_MISSING."""
    scheme, _, bearer = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    queried = parse_qs(environ.get("QUERY_STRING", "")).get("token", [None])[0]
    token = shaken.token or (bearer.strip() if scheme.lower() == "bearer" else None) or queried
    if not token:
        raise SynclineError(
            Code.TOKEN_MISSING, "Connect with `auth: {token}`, and a token that holds."
        )
    return token
