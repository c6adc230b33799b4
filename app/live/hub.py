"""Who is connected to this process, and who has to be told what.

Everything here happens in one event loop. What is told is a hint: an account has reached a
sequence, or its presence changed. Whoever is told pulls for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from app.documents.model import Committed


class Subscriber(Protocol):
    """A connection of one device, of whatever protocol; it counts towards the limits and is
    present as long as it has joined."""

    id: UUID
    account: str
    device: str
    since_ms: int

    def reached(self, seq: int) -> None:
        """The account has reached a sequence: take note and return at once. It may be told
        again, and of a sequence that was pulled already."""

    def present(self, frame: bytes) -> None:
        """The `presence` frame of the account, encoded: whole, and whenever it changes."""


class Hub:
    """A sketch, to build on: numbers and verbs that others may use."""

    sockets: int
    """Subscribers of this process."""
    accounts: int
    """Accounts of this process that have some."""

    def join(self, subscriber: Subscriber) -> None:
        """Raises SynclineError past the limits of this process or of the account."""

    def leave(self, subscriber: Subscriber) -> None: ...

    def note(self, committed: Committed) -> None:
        """The listener of the pipeline."""
