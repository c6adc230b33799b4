"""A client of the live socket, as plain as it can be."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.auth.tokens import mint
from app.clock import system_clock
from app.live import asyncapi
from tests.conftest import SECRET
from tests.live.document import validator

Json = dict[str, Any]
DESCRIBED = validator(json.loads(asyncapi.build()))
PATIENCE_S = 20.0


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Waits for something that happens beside the test; it is said if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def token(account: str, ttl_s: int = 3600, secret: str = SECRET) -> str:
    return mint(secret, account, ttl_s=ttl_s, now_ms=system_clock())


class Talk:
    """One socket. Frames that nobody asked about are kept for those who ask later."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Json] = []
        """All that came, in order."""
        self._read = 0

    @property
    def first(self) -> Json:
        """The first changes, which presence may have overtaken."""
        return next(frame for frame in self.frames if frame["type"] == "changes")

    async def send(self, type: str, **members: Any) -> None:
        await self.connection.send(json.dumps({"type": type, **members}))

    async def hello(self, account: str, device: str, cursor: str | None = None) -> Self:
        await self.send("hello", token=token(account), device=device, cursor=cursor)
        return self

    async def next(self, *types: str, timeout_s: float = PATIENCE_S) -> Json:
        """The next frame of one of these types; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                while self._read < len(self.frames):
                    frame = self.frames[self._read]
                    self._read += 1
                    if frame["type"] in types:
                        return frame
                await self._receive()

    async def _receive(self) -> None:
        """Takes one more frame, which has to be one that the AsyncAPI document describes."""
        frame = json.loads(await self.connection.recv())
        assert (wrong := DESCRIBED("server", frame)) is None, wrong
        self.frames.append(frame)

    async def push(self, *mutations: Json, **more: Any) -> Json:
        """The answer to a push that must succeed."""
        await self.send("push", ref=len(self.frames), mutations=mutations, **more)
        return await self.next("pushed")

    async def until_present(self, *devices: str) -> Json:
        """The presence frame with exactly these devices: the last one that came, which the first
        changes may have been behind, or one to come."""
        told = [frame for frame in self.frames if frame["type"] == "presence"]
        frame = told[-1] if told else await self.next("presence")
        while sorted(one["device"] for one in frame["devices"]) != sorted(devices):
            frame = await self.next("presence")
        return frame

    async def quiet(self, seconds: float = 0.5) -> list[Json]:
        """What comes unasked for a while."""
        began = len(self.frames)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._receive()
        except TimeoutError:
            self._read = len(self.frames)
            return self.frames[began:]

    async def closed(self, timeout_s: float = PATIENCE_S) -> tuple[int, str]:
        """Code and reason with which the service closes it."""
        with suppress(ConnectionClosed):
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._receive()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Talk]:
    """A socket that has said nothing yet."""
    address = url.replace("http://", "ws://") + "/v1/live"
    options = {"max_size": None, "ping_interval": None, "compression": None} | options
    async with connect(address, **options) as connection:
        yield Talk(connection)


@asynccontextmanager
async def talking(
    url: str, account: str, device: str = "d1", cursor: str | None = None, **options: Any
) -> AsyncIterator[Talk]:
    """A socket that has said hello and was told where it stands."""
    async with opened(url, **options) as talk:
        await talk.hello(account, device, cursor)
        await talk.next("changes", "resync")
        yield talk
