"""Codes as problem documents (RFC 9457): the one table from code to HTTP status."""

from typing import Any

import msgspec

from app.errors import Code, SynclineError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "https://syncline.dev/errors#"
RETRY_AFTER_S = 1

STATUS: dict[Code, int] = {
    Code.MALFORMED_JSON: 400,
    Code.INVALID_REQUEST: 400,
    Code.INVALID_KEY: 400,
    Code.MALFORMED_CURSOR: 400,
    Code.BODY_TOO_LARGE: 413,
    Code.HEADERS_TOO_LARGE: 431,
    Code.UNSUPPORTED_ENCODING: 415,
    Code.TOKEN_MISSING: 401,
    Code.TOKEN_INVALID: 401,
    Code.TOKEN_EXPIRED: 401,
    Code.KEYS_UNAVAILABLE: 503,
    Code.ADMIN_ONLY: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.DOCUMENT_NOT_FOUND: 404,
    Code.DOCUMENT_DELETED: 410,
    Code.REVISION_NOT_FOUND: 404,
    Code.REVISION_DELETED: 409,
    Code.BOARD_NOT_FOUND: 404,
    Code.INVALID_VALUE: 422,
    Code.WRONG_TYPE: 422,
    Code.INVALID_OPERATION: 422,
    Code.DOCUMENT_TOO_LARGE: 413,
    Code.TOO_MANY_DOCUMENTS: 422,
    Code.ID_REQUIRED: 422,
    Code.ID_REUSED: 422,
    Code.DEVICE_REQUIRED: 422,
    Code.BASE_UNKNOWN: 409,
    Code.CONFLICT: 409,
    Code.PRECONDITION_FAILED: 412,
    Code.RULE_FAILED: 422,
    Code.RULE_MISMATCH: 409,
    Code.SERVER_OWNED: 403,
    Code.UNKNOWN_EVENT_TYPE: 422,
    Code.INVALID_EVENT: 422,
    Code.AMOUNT_OVER_CAP: 422,
    Code.TOTAL_BELOW_MINIMUM: 422,
    Code.UNKNOWN_LEVEL: 422,
    Code.PROJECTION_FAILED: 422,
    Code.CURSOR_EXPIRED: 410,
    Code.DEVICE_FORKED: 409,
    Code.OVERLOADED: 503,
    Code.DATABASE_UNAVAILABLE: 503,
    Code.SHUTTING_DOWN: 503,
    Code.INTERNAL: 500,
}

TITLE: dict[Code, str] = {
    Code.MALFORMED_JSON: "The body is not JSON",
    Code.INVALID_REQUEST: "The request has a wrong field",
    Code.INVALID_KEY: "The document key is not allowed",
    Code.MALFORMED_CURSOR: "The cursor was not made by this service",
    Code.BODY_TOO_LARGE: "The body is too large",
    Code.HEADERS_TOO_LARGE: "The headers are too large",
    Code.UNSUPPORTED_ENCODING: "The body is in an encoding that is not taken",
    Code.TOKEN_MISSING: "A token is needed",
    Code.TOKEN_INVALID: "The token is not valid here",
    Code.TOKEN_EXPIRED: "The token has expired",
    Code.KEYS_UNAVAILABLE: "The keys that check tokens cannot be fetched",
    Code.ADMIN_ONLY: "This address is for operators",
    Code.NOT_FOUND: "There is nothing at this address",
    Code.METHOD_NOT_ALLOWED: "This address does not take that method",
    Code.DOCUMENT_NOT_FOUND: "The document does not exist",
    Code.DOCUMENT_DELETED: "The document was deleted",
    Code.REVISION_NOT_FOUND: "The revision is not kept",
    Code.REVISION_DELETED: "The revision is a deletion",
    Code.BOARD_NOT_FOUND: "There is no such leaderboard",
    Code.INVALID_VALUE: "The value is not allowed in any document",
    Code.WRONG_TYPE: "The value does not fit the document's merge rule",
    Code.INVALID_OPERATION: "The operation cannot be applied",
    Code.DOCUMENT_TOO_LARGE: "The document is too large",
    Code.TOO_MANY_DOCUMENTS: "The account has too many documents",
    Code.ID_REQUIRED: "The mutation needs an id",
    Code.ID_REUSED: "The id was used for something else",
    Code.DEVICE_REQUIRED: "The device is needed to count",
    Code.BASE_UNKNOWN: "The base of the write is not known",
    Code.CONFLICT: "Somebody else changed the document",
    Code.PRECONDITION_FAILED: "What is there is at another version",
    Code.RULE_FAILED: "The document's merge rule failed",
    Code.RULE_MISMATCH: "The stored document does not fit its merge rule",
    Code.SERVER_OWNED: "The document is the server's own",
    Code.UNKNOWN_EVENT_TYPE: "There is no such type of event",
    Code.INVALID_EVENT: "The event does not fit its type",
    Code.AMOUNT_OVER_CAP: "The event counts for more than its type allows",
    Code.TOTAL_BELOW_MINIMUM: "The event takes away more than is there",
    Code.UNKNOWN_LEVEL: "The level is not in the catalogue",
    Code.PROJECTION_FAILED: "The event's type failed on it",
    Code.CURSOR_EXPIRED: "The cursor is from before a restore",
    Code.DEVICE_FORKED: "Two local stores use one device id",
    Code.OVERLOADED: "The service has too much to do",
    Code.DATABASE_UNAVAILABLE: "The database cannot be reached",
    Code.SHUTTING_DOWN: "The service is stopping",
    Code.INTERNAL: "The service failed",
}


def problem(error: SynclineError) -> dict[str, Any]:
    """The problem document of an error; a rejected mutation in a sync carries the same."""
    return {
        "type": TYPE_PREFIX + error.code,
        "title": TITLE[error.code],
        "status": STATUS[error.code],
        "detail": error.detail,
        "code": str(error.code),
        **error.extensions,
    }


def headers(error: SynclineError) -> dict[str, str]:
    """The response headers that belong to an error beside its body."""
    status = STATUS[error.code]
    if status == 503:
        return {"Retry-After": str(RETRY_AFTER_S)}
    if status == 415:
        return {"Accept-Encoding": "identity"}
    if status == 401:
        challenge = 'Bearer realm="syncline"'
        if error.code is not Code.TOKEN_MISSING:
            challenge += ', error="invalid_token"'
        return {"WWW-Authenticate": challenge}
    return {}


def render(error: SynclineError) -> bytes:
    return msgspec.json.encode(problem(error))
