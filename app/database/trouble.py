"""What is wrong with a database, in words for the operator who can mend it."""

import re

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from app.database.engine import UNREACHABLE

DATABASE_ERRORS = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a command may meet; the innermost one says why."""

_OPTION = re.compile(r'unrecognized configuration parameter "([^"]+)"')
_OUTSIDE = (asyncpg.ClientConfigurationError, ValueError, TypeError)
"""Of the address, before anybody was asked."""


def is_unreachable(error: BaseException) -> bool:
    """Whether no server answered, rather than one that refused."""
    innermost = _innermost(error)
    return isinstance(innermost, UNREACHABLE) and not isinstance(innermost, _OUTSIDE)


def describe(error: BaseException) -> str:
    """The driver's or the server's own words, and what to look at."""
    innermost = _innermost(error)
    reason = " ".join(str(innermost).split()) or type(innermost).__name__
    if option := _OPTION.search(reason):
        return (
            f"the option `{option[1]}` of the URL is not supported; check SYNCLINE_DATABASE_URL, "
            "and take it out"
        )
    if is_unreachable(error):
        remedy = "check SYNCLINE_DATABASE_URL, and that the server runs"
    elif isinstance(innermost, asyncpg.InsufficientPrivilegeError):
        remedy = (
            "check SYNCLINE_DATABASE_URL: its role has to own the tables, or be granted that right"
        )
    else:
        remedy = "check SYNCLINE_DATABASE_URL"
    return f"{reason}; {remedy}"


def _innermost(error: BaseException) -> BaseException:
    """What the driver said, below what others wrapped around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
