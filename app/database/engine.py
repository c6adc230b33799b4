"""Connections to PostgreSQL: one pool, lent out as plain asyncpg connections.

SQLAlchemy owns the pool and the schema; stores speak SQL to asyncpg, which is what the hot
path affords.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.database.arrays import only_lists_are_arrays
from app.errors import Code, SynclineError

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
POOL_TIMEOUT_S = 5.0
LOCK_TIMEOUT_MS = 2_000
"""Locks are held for milliseconds; who waits longer has met a session that hangs."""
HELD_AFTER_MS = 50
"""How long an impatient connection waits for a lock, which others would wait for behind it."""
ANSWER_TIMEOUT_MARGIN_S = 2.0
"""How long past the server's own statement timeout a silent server is waited for."""

UNREACHABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # Raised too where the server ends a connection in the middle of a statement.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    OSError,
    TimeoutError,
)
"""What asyncpg raises when the server is away: nothing was decided about the request."""

_CONNECT_ERRORS = (
    SQLAlchemyError,  # among others that of an exhausted pool
    AsyncAdapt_asyncpg_dbapi.Error,  # SQLAlchemy's wrapper of what asyncpg raises
    asyncpg.PostgresError,
    *UNREACHABLE,
)


def plain_url(url: str) -> str:
    """A PostgreSQL URL as asyncpg reads it: the driver's name after the `+` is dropped."""
    scheme, separator, rest = url.partition("://")
    driver_free = scheme.partition("+")[0]
    if not separator or driver_free not in ("postgresql", "postgres"):
        raise ValueError("a database URL begins with postgresql://")
    return f"postgresql://{rest}"


class Database:
    """A pool of connections; made without connecting, so that a service can start without one."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int,
        statement_timeout_ms: int,
        on_connect: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        """`on_connect` sees each new connection before it is lent; what it raises ends it."""
        self.url = plain_url(url)
        self._statement_timeout_ms = statement_timeout_ms
        self._on_connect = on_connect
        only_lists_are_arrays()
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
        )

    async def connect(self, *, patient: bool = True) -> Any:
        """A connection of the caller's own, set up as all are.

        It waits LOCK_TIMEOUT_MS for a lock, or HELD_AFTER_MS if it is not patient.
        """
        connection = await asyncpg.connect(
            self.url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=self._statement_timeout_ms / 1000 + ANSWER_TIMEOUT_MARGIN_S,
            server_settings={
                "application_name": "syncline",
                "statement_timeout": str(self._statement_timeout_ms),
                "lock_timeout": str(LOCK_TIMEOUT_MS if patient else HELD_AFTER_MS),
                "jit": "off",
                # Statements are few and of one shape; planning them anew costs as much as they do.
                "plan_cache_mode": "force_generic_plan",
            },
        )
        if self._on_connect is not None:
            try:
                await self._on_connect(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    def kept(self, *, patient: bool = True) -> "KeptConnection":
        """A connection outside the pool, for one task that needs it all the time."""
        return KeptConnection(partial(self.connect, patient=patient))

    @property
    def patience_s(self) -> float:
        """How long a lock that somebody holds is waited for."""
        return LOCK_TIMEOUT_MS / 1000

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Lends an asyncpg connection; one that broke or is left mid-transaction is thrown away.

        Raises DATABASE_UNAVAILABLE when none can be had in time.
        """
        try:
            holder = await self.engine.connect()
        except _CONNECT_ERRORS as error:
            raise unavailable() from error
        try:
            driver = await self._driver(holder)
            broken = False
            try:
                yield driver
            except UNREACHABLE:
                # It may not know yet that it is closed, or wait for an answer that came late.
                broken = True
                raise
            finally:
                if broken or driver.is_closed() or driver.is_in_transaction():
                    await holder.invalidate()
        finally:
            await holder.close()

    async def read(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """Asks a connection; once more where the server had ended it while nobody used it."""
        try:
            async with self.connection() as connection:
                return await ask(connection)
        except UNREACHABLE:
            async with self.connection() as connection:
                return await ask(connection)

    async def _driver(self, holder: AsyncConnection) -> Any:
        """The asyncpg connection that is held; a new one if the server ended it in the pool."""
        try:
            driver: Any = (await holder.get_raw_connection()).driver_connection
            if driver.is_closed():
                await holder.invalidate()
                driver = (await holder.get_raw_connection()).driver_connection
        except _CONNECT_ERRORS as error:
            raise unavailable() from error
        return driver

    @property
    def pool_size(self) -> int:
        """Connections that the pool lends at most; those that are kept are not of it."""
        return self._pool.size()

    @property
    def pool_lent(self) -> int:
        """Connections of the pool that are in use now."""
        return self._pool.checkedout()

    @property
    def _pool(self) -> AsyncAdaptedQueuePool:
        pool = self.engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        return pool

    async def close(self) -> None:
        await self.engine.dispose()


class KeptConnection:
    """A connection that one task keeps from use to use: a loan costs more than a statement."""

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._driver: Any = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """The asyncpg connection; a new one if the last broke or was left mid-transaction.

        Raises DATABASE_UNAVAILABLE when none can be had in time.
        """
        if self._driver is None or self._driver.is_closed():
            try:
                self._driver = await self._connect()
            except _CONNECT_ERRORS as error:
                raise unavailable() from error
        driver = self._driver
        broken = True
        try:
            yield driver
            broken = False
        except UNREACHABLE:
            raise
        except BaseException:
            broken = False
            raise
        finally:
            if broken or driver.is_closed() or driver.is_in_transaction():
                self._drop()

    def _drop(self) -> None:
        if self._driver is not None:
            self._driver.terminate()
            self._driver = None

    async def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None or driver.is_closed():
            return
        try:
            await driver.close(timeout=CONNECT_TIMEOUT_S)
        except UNREACHABLE:
            driver.terminate()


def unavailable(*, reads: bool = False) -> SynclineError:
    detail = (
        "The database cannot be asked just now; send the same request again."
        if reads
        else "It is not certain whether the write was made; send it again with the same ids."
    )
    return SynclineError(Code.DATABASE_UNAVAILABLE, detail)
