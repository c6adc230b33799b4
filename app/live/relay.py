"""What this process tells the others, and what it hears from them."""

import asyncio
from collections.abc import Callable, Iterable
from uuid import UUID

import structlog

from app.documents.model import Committed
from app.live.channel import Channel
from app.live.hub import Hub
from app.live.messages import Message, decode, encode, messages

log = structlog.get_logger()

COALESCE_S = 0.002
"""Between two messages: what is committed meanwhile goes into one."""
HEARD_S = 0.2
"""By then a message has surely arrived, or a sweep makes up for it."""


class Relay:
    """Commits go to the hub at once and, after it, to the other processes, if any has sockets."""

    def __init__(self, hub: Hub, channel: Channel, process: UUID) -> None:
        self._hub = hub
        self._channel = channel
        self._process = process
        self._reached: dict[str, int] = {}
        self._presence: set[str] = set()
        self._wake = asyncio.Event()
        self.unheard = False
        """Whether no other process has sockets, so that nobody has to be told."""
        self.announced = 0
        """How often another process has said that it begins to listen."""
        self.on_presence: Callable[[Iterable[str]], None] = lambda _: None
        self.on_gap: Callable[[], None] = lambda: None
        self.sent = 0
        self.heard = 0
        """Messages."""

    @property
    def waiting(self) -> int:
        """Accounts of which the others are not told yet."""
        return len(self._reached) + len(self._presence)

    @property
    def up(self) -> bool:
        """Whether this process hears the others, as far as it knows."""
        return self._channel.up

    def note(self, committed: Committed) -> None:
        """The pipeline's listener: called after each commit that changed something."""
        self._hub.reached(committed.seqs)
        if not self.unheard:
            self._reached.update(committed.seqs)
            self._wake.set()

    def tell_presence(self, accounts: Iterable[str]) -> None:
        if not self.unheard:
            self._presence.update(accounts)
            self._wake.set()

    async def listen(self) -> None:
        """Until it is cancelled."""
        await self._channel.run(self._hear, self._connected)

    async def tell(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.flush()
            await asyncio.sleep(COALESCE_S)

    def flush(self) -> None:
        reached, self._reached = self._reached, {}
        presence, self._presence = self._presence, set()
        texts = [encode(one) for one in messages(self._process, reached, presence)]
        if texts:
            self.sent += len(texts)
            self._channel.publish(texts)

    def announce(self) -> None:
        """Tells the others that from now on somebody listens here, and looks for what they did not
        say until they had heard it."""
        self._channel.publish([encode(Message(self._process, listens=True))])
        asyncio.get_running_loop().call_later(HEARD_S, self.on_gap)

    def _connected(self) -> None:
        listens = self._hub.sockets > 0
        self._channel.publish([encode(Message(self._process, connects=True, listens=listens))])
        self.on_gap()

    def _hear(self, text: str | bytes) -> None:
        message = decode(text)
        if message is None or message.sender == self._process:
            return
        self.heard += 1
        if message.listens:
            self.announced += 1
            self.unheard = False
        if message.connects:
            self.on_gap()  # what it had to say while it was away, it could not say
        if message.reached:
            self._hub.reached(message.reached)
        if message.presence:
            self.on_presence(message.presence)
