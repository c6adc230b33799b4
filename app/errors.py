"""Every error that Syncline answers, by its stable code.

A code is part of the contract: it is never renamed. `problems.py` gives each one its HTTP
status; `docs/reference/errors.md` tells the caller what to do about it.
"""

from enum import StrEnum
from typing import Any, Self


class Code(StrEnum):
    # The request cannot be read.
    MALFORMED_JSON = "malformed-json"
    INVALID_REQUEST = "invalid-request"
    INVALID_KEY = "invalid-key"
    MALFORMED_CURSOR = "malformed-cursor"
    BODY_TOO_LARGE = "body-too-large"
    HEADERS_TOO_LARGE = "headers-too-large"
    UNSUPPORTED_ENCODING = "unsupported-encoding"
    # Who is asking.
    TOKEN_MISSING = "token-missing"
    TOKEN_INVALID = "token-invalid"
    TOKEN_EXPIRED = "token-expired"
    KEYS_UNAVAILABLE = "keys-unavailable"
    ADMIN_ONLY = "admin-only"
    # What was asked for.
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    DOCUMENT_NOT_FOUND = "document-not-found"
    DOCUMENT_DELETED = "document-deleted"
    REVISION_NOT_FOUND = "revision-not-found"
    REVISION_DELETED = "revision-deleted"
    BOARD_NOT_FOUND = "board-not-found"
    # The write.
    INVALID_VALUE = "invalid-value"
    WRONG_TYPE = "wrong-type"
    INVALID_OPERATION = "invalid-operation"
    DOCUMENT_TOO_LARGE = "document-too-large"
    TOO_MANY_DOCUMENTS = "too-many-documents"
    ID_REQUIRED = "id-required"
    ID_REUSED = "id-reused"
    DEVICE_REQUIRED = "device-required"
    BASE_UNKNOWN = "base-unknown"
    CONFLICT = "conflict"
    PRECONDITION_FAILED = "precondition-failed"
    RULE_FAILED = "rule-failed"
    RULE_MISMATCH = "rule-mismatch"
    SERVER_OWNED = "server-owned"
    # The event.
    UNKNOWN_EVENT_TYPE = "unknown-event-type"
    INVALID_EVENT = "invalid-event"
    AMOUNT_OVER_CAP = "amount-over-cap"
    TOTAL_BELOW_MINIMUM = "total-below-minimum"
    UNKNOWN_LEVEL = "unknown-level"
    PROJECTION_FAILED = "projection-failed"
    # Sync.
    CURSOR_EXPIRED = "cursor-expired"
    DEVICE_FORKED = "device-forked"
    # The service.
    OVERLOADED = "overloaded"
    DATABASE_UNAVAILABLE = "database-unavailable"
    SHUTTING_DOWN = "shutting-down"
    INTERNAL = "internal"


class SynclineError(Exception):
    """An expected error: a code, one sentence that says what to do, and members for the caller.

    `extensions` become members of the problem document (RFC 9457 §3.2), so that nothing the
    caller needs for its next step is lost.
    """

    def __init__(self, code: Code, detail: str, **extensions: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.extensions = extensions

    def as_value(self) -> Self:
        """The error as something to keep, which forgets the frames that raised it.

        They hold what it is kept in: a cycle, which only Python's collector would find, and while
        that looks nobody is served.
        """
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    def again(self) -> "SynclineError":
        """Another of the same, to be raised where this one is kept."""
        return SynclineError(self.code, self.detail, **self.extensions)


def cursor_expired() -> SynclineError:
    return SynclineError(
        Code.CURSOR_EXPIRED,
        "The database was restored. Sync once without a cursor, take every document in the "
        "answer as it is, and forget those that are not in it. Then send waiting mutations "
        "again, with `base` null and `base_value`, the document as the device had it: the "
        "versions that they name belong to a lost past.",
    )
