"""A gate at the COMMIT of the real service: to crash it there, or to hold it for a while."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import asyncpg

from app.database.engine import Database, KeptConnection
from tests.simulation.server import Crash


@dataclass
class Gate:
    """Stands at the COMMIT of one service: to crash it, or to hold it for a while."""

    lies: ClassVar[bool] = False
    """A planted bug: what crashes before the commit is acknowledged all the same."""

    crashes: list[Crash] = field(default_factory=list)
    decided: threading.Event = field(default_factory=threading.Event)
    """Whether a batch was read and decided since the gate was closed: its write is on its way."""
    arrived: threading.Event = field(default_factory=threading.Event)
    opens: threading.Event = field(default_factory=threading.Event)
    closed: bool = False

    def close(self) -> None:
        self.decided.clear()
        self.arrived.clear()
        self.opens.clear()
        self.closed = True

    def open(self) -> None:
        self.closed = False
        self.opens.set()

    def wait(self) -> None:
        self.arrived.set()
        assert self.opens.wait(600), "nobody opened the gate"


WRITES = "with "
"""How the statement begins that writes a batch."""


class GatedDatabase(Database):
    """The service's own database, with a gate at every COMMIT."""

    gate: Gate

    def kept(self, *, patient: bool = True) -> KeptConnection:
        return _Kept(self, patient=patient)


class _Kept(KeptConnection):
    def __init__(self, database: GatedDatabase, *, patient: bool) -> None:
        super().__init__(partial(database.connect, patient=patient))
        self._database = database

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        async with super().use() as connection:
            yield _Gated(connection, self._database.gate)


class _Gated:
    """A connection that stops or fails at COMMIT if its gate says so."""

    def __init__(self, connection: Any, gate: Gate) -> None:
        self._connection = connection
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, query: str, *arguments: Any) -> Any:
        """A write outside a transaction commits by itself, so here it gets one.

        One that finds the head changed writes nothing; what comes after it is what commits.
        """
        if query.startswith(WRITES):
            self._gate.decided.set()
        if not query.startswith(WRITES) or self._connection.is_in_transaction():
            return await self._connection.fetch(query, *arguments)
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            written = await self._connection.fetch(query, *arguments)
        except BaseException:
            await transaction.rollback()
            raise
        if written:
            await self._commit(transaction)
        else:
            await transaction.rollback()
        return written

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            yield
        except BaseException:
            await transaction.rollback()
            raise
        await self._commit(transaction)

    async def _commit(self, transaction: Any) -> None:
        if self._gate.closed:
            await asyncio.get_running_loop().run_in_executor(None, self._gate.wait)
        crash = self._gate.crashes.pop() if self._gate.crashes else None
        if crash in (None, "after", "retried after"):
            await transaction.commit()
        else:
            await transaction.rollback()
        if crash == "before" and self._gate.lies:
            return
        if crash in ("before", "after"):
            raise asyncpg.InsufficientResourcesError("the service crashed")
        if crash is not None:
            raise asyncpg.ConnectionDoesNotExistError("the connection was cut")
