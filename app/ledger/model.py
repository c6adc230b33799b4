"""What the ledger speaks of: events, what was recorded of them, what becomes of them."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from uuid import UUID

from app.errors import SynclineError
from app.ledger.event_type import EventType, Reads


@dataclass(slots=True)
class Event:
    """An immutable fact, decoded and checked as far as it can be by itself."""

    id: UUID
    type: EventType
    payload: Any
    """A struct of the type's own."""
    text: bytes
    """The payload as it was sent, in canonical form."""
    digest: bytes
    """Of what it says: the same id with another digest is another event."""
    at_ms: int
    """When it happened, set right by the service's clock."""
    claimed_at_ms: int | None = None
    """When the device said that it happened, where that could not be."""
    device: str | None = None
    reads: Reads = field(default_factory=Reads)

    @property
    def clamped(self) -> bool:
        return self.claimed_at_ms is not None


class Recorded(NamedTuple):
    """An event that was accepted."""

    digest: bytes
    effects: dict[str, int]
    """By total."""
    at_ms: int


EventOutcome = Literal["accepted", "duplicate", "rejected"]


@dataclass(slots=True)
class EventDecision:
    """What becomes of one event."""

    event: Event
    outcome: EventOutcome
    problem: SynclineError | None = None
    effects: dict[str, int] = field(default_factory=dict)
    at_ms: int = 0


class EventRow(NamedTuple):
    """A new event as it goes to the table, without its account."""

    id: UUID
    type: str
    payload: str
    digest: bytes
    effects: str
    device: str | None
    occurred_at_ms: int
    claimed_at_ms: int | None
    received_at_ms: int
