"""Which database errors pass by themselves, and how long to wait for that."""

import random

import asyncpg

from app.database.engine import UNREACHABLE
from app.errors import Code, SynclineError

RETRIES = 4
FIRST_PAUSE_S = 0.05

PASSING = (
    *UNREACHABLE,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    # A migration changed a table under a prepared statement; preparing it anew mends that.
    asyncpg.InvalidCachedStatementError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed if it is simply tried again."""
    if isinstance(error, SynclineError):
        return error.code is Code.DATABASE_UNAVAILABLE
    return isinstance(error, PASSING)


def is_exhausted(error: BaseException) -> bool:
    """Whether the database answers but cannot serve: too slow, disk full, a read-only standby."""
    return isinstance(
        error,
        (
            asyncpg.QueryCanceledError,
            asyncpg.LockNotAvailableError,
            asyncpg.InsufficientResourcesError,
            asyncpg.ReadOnlySQLTransactionError,
        ),
    ) and not isinstance(error, UNREACHABLE)


def is_stuck(error: BaseException | None) -> bool:
    """Whether the transaction waited too long for something that another session holds."""
    return isinstance(error, (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError))


def is_held(error: BaseException | None) -> bool:
    """Whether another session holds a lock that the transaction needs."""
    return isinstance(error, asyncpg.LockNotAvailableError)


def is_of_the_content(error: BaseException) -> bool:
    """Whether what was written is at fault: what the database refuses, or a bug that it met.

    Anything else that PostgreSQL says, such as a missing privilege, concerns all requests.
    """
    of_the_content = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
    return isinstance(error, of_the_content) or not isinstance(error, asyncpg.PostgresError)


def is_database_trouble(error: BaseException) -> bool:
    """Whether the request was fine and the database was not."""
    return is_transient(error) or is_exhausted(error)


def pause_before(attempt: int) -> float:
    """Seconds before another attempt: exponential, with full jitter so that lanes spread."""
    return random.uniform(0, FIRST_PAUSE_S * 2**attempt)  # noqa: S311 - not a secret
