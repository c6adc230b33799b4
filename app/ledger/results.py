"""What is said of each event."""

from collections.abc import Sequence

from msgspec import UNSET

from app import problems
from app.ledger.intake import UnreadEvent
from app.ledger.model import Event, EventDecision
from app.ledger.types import EventResult


def event_results(
    events: Sequence[Event | UnreadEvent], decisions: Sequence[EventDecision]
) -> list[EventResult]:
    """Results in the order of the events, of which those that could be read were decided."""
    decided = iter(decisions)
    return [
        _unread(one) if isinstance(one, UnreadEvent) else _decided(next(decided)) for one in events
    ]


def _decided(decision: EventDecision) -> EventResult:
    event = decision.event
    if decision.problem is not None:
        return EventResult(
            id=event.id,
            outcome="rejected",
            type=event.type.name,
            problem=problems.problem(decision.problem),
        )
    return EventResult(
        id=event.id,
        outcome=decision.outcome,
        type=event.type.name,
        occurred_at=decision.at_ms,
        clamped=event.clamped,
        effects={name: amount for name, amount in decision.effects.items() if ":" not in name},
    )


def _unread(unread: UnreadEvent) -> EventResult:
    return EventResult(
        id=unread.id,
        outcome="rejected",
        type=unread.type,
        occurred_at=UNSET,
        problem=problems.problem(unread.problem),
    )
