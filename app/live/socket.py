"""One socket: what it was sent, what it is owed, and how it ends.

Two parties write to it: the deliveries, which never wait, and the conversation, which answers one
frame after the other.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

import structlog

from app.live import frames
from app.live.types import CloseCode
from app.sync.cursor import Cursor
from app.sync.exchange import Changed

log = structlog.get_logger()

LEAST_BYTES = 4_096
"""Who takes less of what waits for it, in the time that the setting gives, takes nothing."""
LOOK = 2**63
"""Past every sequence: what it has reached is not known."""


class Wire(Protocol):
    """The connection below; see `app/socket_protocol.py`."""

    on_shutdown: Callable[[], None] | None

    @property
    def closed(self) -> bool: ...

    @property
    def is_writable(self) -> bool: ...

    async def until_writable(self) -> None: ...

    @property
    def unsent_bytes(self) -> int: ...

    def write(self, text: bytes) -> bool: ...

    def trust(self, max_bytes: int) -> None: ...

    def end(self, code: int, reason: str) -> None: ...


class LiveSocket:
    """A subscriber of the hub that stands at a position and is sent what lies behind it."""

    __slots__ = (
        "_due",
        "_frames",
        "_late_presence",
        "_send_s",
        "_stalled",
        "_wake",
        "_wire",
        "account",
        "allowance",
        "allowed_at_s",
        "busy",
        "device",
        "expires_ms",
        "first",
        "held_ms",
        "id",
        "is_warned",
        "leaving",
        "position",
        "pulls_itself",
        "since_ms",
    )

    def __init__(
        self,
        wire: Wire,
        *,
        id: UUID,
        account: str,
        device: str,
        since_ms: int,
        position: Cursor | None,
        send_s: float,
        wake: Callable[[str], None],
        frames: Counter[str],
    ) -> None:
        """`wake` is told the account when it has to be pulled for; `frames` counts those sent."""
        self._wire = wire
        self.id = id
        self.account = account
        self.device = device
        self.since_ms = since_ms
        self.position = position
        """Everything up to it was sent, or the client said that it has it; None: it has nothing."""
        self.expires_ms = 0
        """When its token does."""
        self.held_ms = 0
        """For how long it did when it was shown."""
        self.is_warned = False
        """Whether it was told that its token expires."""
        self.leaving = False
        """To be closed once what is being answered is answered."""
        self.busy = False
        """A push is being answered, which moves the position."""
        self.first = True
        """No changes were sent yet: the first ones are, even if there are none."""
        self.pulls_itself = False
        """There is more than is sent unasked; until the client has pulled it is only poked."""
        self.allowance = 0.0
        self.allowed_at_s = 0.0
        """Of frames from the client: how many it may send at once, and as of when."""
        self._due = LOOK
        """The sequence of which it was told and that was not pulled for yet; 0: there is none."""
        self._send_s = send_s
        self._wake = wake
        self._frames = frames
        self._stalled: asyncio.Task[None] | None = None
        self._late_presence: bytes | None = None

    # --- what it is told ----------------------------------------------------------------------

    def changed(self, seq: int | None) -> None:
        reached = LOOK if seq is None else seq
        if self.position is None or reached > self.position.seq:
            self._due = max(self._due, reached)
            self._wake(self.account)

    def present(self, frame: bytes) -> None:
        if not self._offer("presence", frame):
            self._late_presence = frame

    def show(self, expires_ms: int, now_ms: int) -> None:
        """A token was shown that holds until then."""
        self.expires_ms, self.held_ms = expires_ms, expires_ms - now_ms
        self.is_warned = False

    def warn(self) -> None:
        """The token will expire."""
        self.is_warned = self._offer("reauth", frames.reauth(self.expires_ms))

    # --- what the deliveries send -------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """Whether it is owed something and can be sent it now."""
        return self._due > 0 and not (self.busy or self._stalled or self._wire.closed)

    def take_due(self) -> int:
        """What is pulled for now; to be given back to `owe` if it comes to nothing."""
        due, self._due = self._due, 0
        return due

    def owe(self, due: int) -> None:
        if self.position is None or due > self.position.seq:
            self._due = max(self._due, due)

    def deliver(self, changed: Changed, frame: bytes) -> bool:
        """All that changed after its position; False: it does not take it just now."""
        if changed.changes or self.first:
            if not self._offer("changes", frame):
                return False
            self.first = False
        self._move_to(changed.cursor)
        return True

    def poke(self, era: str) -> bool:
        """There is more than is sent unasked."""
        if self.first:
            # It says where this socket stands, not that the client has caught up.
            position = self.position or Cursor(era, 0)
            if not self._offer("changes", frames.changes(position, [])):
                return False
            self.first, self.position = False, position
        if not self._offer("poke", frames.POKE):
            return False
        self.pulls_itself = True
        return True

    def resync(self, frame: bytes) -> bool:
        """Where it stands is of a lost past."""
        if not self._offer("resync", frame):
            return False
        self.first, self.pulls_itself = False, True
        return True

    # --- what the conversation sends ----------------------------------------------------------

    async def answer(self, kind: str, frame: bytes) -> None:
        """Sends an answer; a client that does not take it for long is closed."""
        if not (self._wire.is_writable or await self._takes() or await self._takes()):
            self._give_up()
        if self._wire.write(frame):
            self._frames[kind] += 1

    def pushed(self, cursor: Cursor, *, more: bool) -> None:
        """A push was answered: the client stands where the answer ends, whatever it was sent
        before. What is sent twice because of that does no harm."""
        self.pulls_itself = more
        self._move_to(cursor)

    def release(self) -> None:
        """The conversation has answered; what came meanwhile is due."""
        self.busy = False
        if self._due:
            self._wake(self.account)

    def close(self, code: CloseCode, reason: str) -> None:
        self._wire.end(code, reason)

    def leave(self, reason: str) -> None:
        """The process stops; a push that is under way is answered first."""
        self.leaving = True
        if not self.busy:
            self.close(CloseCode.RESTARTING, reason)

    def left(self) -> None:
        """The connection is over: nothing may wait for it any more."""
        self._wire.on_shutdown = None
        if self._stalled is not None:
            self._stalled.cancel()

    # --- within -------------------------------------------------------------------------------

    def _move_to(self, cursor: Cursor) -> None:
        self.position = cursor
        if self._due <= cursor.seq:
            self._due = 0

    def _offer(self, kind: str, frame: bytes) -> bool:
        """Sends a frame if the client takes frames; if not, watches until it does."""
        if self._wire.closed:
            return False
        if self._stalled is not None or not self._wire.is_writable:
            if self._stalled is None:
                self._stalled = asyncio.create_task(self._watch())
            return False
        sent = self._wire.write(frame)
        self._frames[kind] += sent
        return sent

    async def _takes(self) -> bool:
        """Waits until the client takes frames again; False: it took nothing for long."""
        while True:
            unsent = self._wire.unsent_bytes
            try:
                async with asyncio.timeout(self._send_s):
                    await self._wire.until_writable()
                return True
            except TimeoutError:
                if self._wire.unsent_bytes > unsent - LEAST_BYTES:
                    return False

    async def _watch(self) -> None:
        """Nobody awaits this, and while it lasts nothing is sent: it must not fail unseen."""
        try:
            await self._until_taken()
        except Exception:
            log.exception("live.watch_failed")
            self.close(CloseCode.INTERNAL, "the service failed")

    async def _until_taken(self) -> None:
        """Until the client takes frames again: then it is owed what came meanwhile; one that took
        nothing for long has to pull it, and one that still does not is closed."""
        slow = not await self._takes()
        if slow and not await self._takes():
            self._give_up()
            return
        self._stalled = None
        if slow and self._offer("resync", frames.SLOW):
            self.first, self.pulls_itself = False, True
            if not self.busy:  # else the answer that waits was pulled before what is due
                self._due = 0
        late, self._late_presence = self._late_presence, None
        if late is not None:
            self.present(late)
        if self._due:
            self._wake(self.account)

    def _give_up(self) -> None:
        self.close(CloseCode.TIMED_OUT, "frames are not taken")
