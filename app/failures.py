"""Every failure as a problem document; what nobody expected is logged and says nothing."""

from typing import NamedTuple

import structlog
from litestar.exceptions import HTTPException

from app import problems
from app.answer import Answer
from app.database.engine import unavailable
from app.database.retry import is_database_trouble
from app.errors import Code, SynclineError

log = structlog.get_logger()


class Failure(NamedTuple):
    """An answer of the media type `problems.MEDIA_TYPE`."""

    status: int
    headers: dict[str, str]
    body: bytes


def failure(error: Exception, method: str, path: str) -> Failure:
    """What is answered to a request that raised `error`."""
    expected = _expected(error, reads=method in ("GET", "HEAD"))
    if expected is None:
        log.error("request failed", method=method, path=path, exc_info=error)
        expected = SynclineError(Code.INTERNAL, "The service's log says why; send it again later.")
    headers = dict(problems.headers(expected))
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    return Failure(problems.STATUS[expected.code], headers, problems.render(expected))


def failed(error: Exception, method: str, path: str) -> Answer:
    """The same, for what goes past the router."""
    status, headers, body = failure(error, method, path)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Answer(status, raw, body, problems.MEDIA_TYPE.encode())


def _expected(error: Exception, *, reads: bool) -> SynclineError | None:
    if isinstance(error, SynclineError):
        if error.code is Code.DATABASE_UNAVAILABLE:
            return unavailable(reads=reads)
        return error
    if is_database_trouble(error):
        log.warning("database trouble", error=repr(error))
        return unavailable(reads=reads)
    if isinstance(error, HTTPException):
        match error.status_code:
            case 404:
                return SynclineError(Code.NOT_FOUND, "See /docs for the addresses there are.")
            case 405:
                return SynclineError(Code.METHOD_NOT_ALLOWED, "Allow names the methods it takes.")
            case 413:
                return SynclineError(Code.BODY_TOO_LARGE, "Send less in one request.")
            case status if 400 <= status < 500:
                return SynclineError(Code.INVALID_REQUEST, str(error.detail))
    return None
