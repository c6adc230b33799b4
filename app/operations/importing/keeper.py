"""Keeps how far an import has come, and keeps a second one from reading the same source."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from app.clock import Clock
from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.errors import Code, SynclineError
from app.operations.importing import progress_store
from app.operations.importing.source import SourceError
from app.operations.importing.tally import Progress
from app.operations.importing.writers import patiently

T = TypeVar("T")


class DatabaseKeeper:
    """The row of one import. Its connection holds the lock for as long as it is open."""

    def __init__(self, database: Database, source: str, clock: Clock) -> None:
        self._kept = database.kept()
        self._source = source
        self._clock = clock
        self._locked: Any = None
        """The connection that holds the lock."""

    async def read(self) -> Progress | None:
        """Raises SourceError where another import reads this source."""
        text = await self._ask(lambda one: progress_store.read(one, self._source))
        try:
            return None if text is None else msgspec.json.decode(text, type=Progress)
        except msgspec.ValidationError:
            return None  # of another version

    async def write(self, progress: Progress) -> None:
        position, done = msgspec.json.encode(progress).decode(), progress.tally.rows
        await self._ask(
            lambda one: progress_store.write(one, self._source, position, done, self._clock())
        )

    async def _ask(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        return await patiently(lambda: self._once(ask))

    async def _once(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        try:
            async with self._kept.use() as connection:
                if connection is not self._locked:
                    if not await progress_store.lock(connection, self._source):
                        raise SourceError(
                            f"another import of {self._source} is running: wait until it is done"
                        )
                    self._locked = connection
                return await ask(connection)
        except Exception as error:
            if not is_database_trouble(error):
                raise
            raise SynclineError(Code.DATABASE_UNAVAILABLE, "The database is away.") from error

    async def close(self) -> None:
        await self._kept.close()


class NoKeeper:
    """Of a trial, which begins at the beginning and leaves no trace."""

    async def read(self) -> Progress | None:
        return None

    async def write(self, progress: Progress) -> None:
        pass
