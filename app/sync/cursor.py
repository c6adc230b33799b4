"""Cursors: an opaque position in the changes of one account, in one era of the database."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass

from app.errors import Code, SynclineError

_PLAIN = re.compile(r"([0-9a-f]{8})\.(0|[1-9][0-9]{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to `seq` has been seen."""

    era: str
    seq: int

    def encode(self) -> str:
        return urlsafe_b64encode(f"{self.era}.{self.seq}".encode()).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Raises MALFORMED_CURSOR for anything that `Cursor.encode` did not make."""
    try:
        plain = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()
    except (Base64Error, ValueError) as error:
        raise _malformed() from error
    parts = _PLAIN.fullmatch(plain)
    if parts is None:
        raise _malformed()
    cursor = Cursor(parts[1], int(parts[2]))
    if cursor.encode() != text:
        raise _malformed()
    return cursor


def _malformed() -> SynclineError:
    return SynclineError(
        Code.MALFORMED_CURSOR, "Send the cursor of the last answer as it was, or none at all."
    )
