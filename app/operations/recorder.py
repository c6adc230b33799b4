"""Writes what operators ask and no request waits for: what was refused, where devices stand."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from app.clock import Clock
from app.database.engine import Database
from app.documents.housekeeping import DAY_MS, is_trouble
from app.operations import store
from app.operations.device_notes import DeviceNote, DeviceNotes
from app.operations.rejections import Rejections

T = TypeVar("T")

log = structlog.get_logger()

WRITE_EVERY_S = 5.0
FORGET_EVERY_MS = 3_600_000
LAST_WRITE_S = 2.0
"""How long a stop waits for the last write: what it loses, a crash would lose as well."""
PORTION = 500
"""Rows of one statement, so that no lock is held long."""


class Recorder:
    """One task; several processes may each have theirs."""

    def __init__(self, database: Database, clock: Clock, rejection_days: int) -> None:
        self._database = database
        self._clock = clock
        self._rejection_days = rejection_days
        self.rejections = Rejections(clock)
        self.devices = DeviceNotes(clock)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._forgot_ms = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what waits, if the database takes it at once."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=LAST_WRITE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), WRITE_EVERY_S)
            except TimeoutError:
                await self.write(self.devices.take())
                await self._forget_sometimes()
        await self.write(self.devices.take_all())

    async def write(self, notes: Sequence[DeviceNote]) -> None:
        """Writes the refusals that wait, and these notes; what fails waits for the next time."""
        await self._in_portions(
            self.rejections.take(), self._write_rejections, self.rejections.give_back
        )
        await self._in_portions(notes, self._write_notes, self.devices.give_back)
        if self.rejections.lost:
            log.warning("refusals were not counted", count=self.rejections.lost)
            self.rejections.lost = 0

    async def _in_portions(
        self,
        rows: Sequence[T],
        write: Callable[[Sequence[T]], Awaitable[None]],
        give_back: Callable[[Sequence[T]], None],
    ) -> None:
        for start in range(0, len(rows), PORTION):
            try:
                await write(rows[start : start + PORTION])
            except Exception as error:
                if is_trouble(error):
                    log.warning("recording waits for the database", error=repr(error))
                    give_back(rows[start:])
                else:
                    log.exception("recording failed, and is given up")
                return

    async def _write_rejections(self, rejections: Sequence[tuple[str, str, str, int, int]]) -> None:
        async with self._database.connection() as connection:
            await store.write_rejections(connection, rejections)

    async def _write_notes(self, notes: Sequence[DeviceNote]) -> None:
        async with self._database.connection() as connection:
            missing = await store.update_devices(connection, notes)
            for note in missing:
                await store.add_device(connection, note)

    async def _forget_sometimes(self) -> None:
        now_ms = self._clock()
        if now_ms - self._forgot_ms < FORGET_EVERY_MS:
            return
        self._forgot_ms = now_ms
        try:
            await self.forget(now_ms - self._rejection_days * DAY_MS)
        except Exception as error:
            if not is_trouble(error):
                log.exception("old refusals could not be forgotten")

    async def forget(self, before_ms: int) -> None:
        """Forgets refusals that did not happen again since, in portions."""
        gone = PORTION
        while gone == PORTION:
            async with self._database.connection() as connection:
                gone = await store.forget_rejections(connection, before_ms, PORTION)
