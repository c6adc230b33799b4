"""What becomes of one event: pure, from what its account had to what is to be recorded."""

from contextlib import AbstractContextManager

import structlog

from app.errors import Code, SynclineError
from app.ledger.boards import XP, is_board, weekly_xp
from app.ledger.event_type import (
    TOTAL,
    Effects,
    EventRefused,
    EventType,
    Known,
    Occasion,
    UnknownLevel,
)
from app.ledger.model import Event, EventDecision, Recorded
from merge_rules.canonical import MAX_INTEGER
from merge_rules.verification.time_limit import TimeUp, time_limit

log = structlog.get_logger()

EVENTS = "events"
"""The total that counts the events."""
PROJECTION_LIMIT_S = 1.0
"""For one event by a type of an app's own, which may loop; nobody else is served meanwhile."""


def decide_event(
    event: Event, seen: Recorded | None, known: Known
) -> tuple[EventDecision, Effects | None]:
    """Decides one event, and gives the effects of an accepted one. It never raises."""
    if seen is not None:
        return _repeated(event, seen), None
    try:
        with limited():
            occasion = Occasion(event.id, event.at_ms)
            effects = event.type.project(event.payload, occasion, known)
            problem = _forbidden(event, effects, known)
    except EventRefused as refused:
        problem = SynclineError(Code.INVALID_EVENT, f"{refused}.", path="$.payload")
    except UnknownLevel as unknown:
        problem = SynclineError(
            Code.UNKNOWN_LEVEL,
            f"The level {str(unknown)!r} is not in the catalogue: keep the event and send it "
            "again once the level is published.",
            path="$.payload.level",
        )
    except (Exception, TimeUp):
        # Types are an app's own code: whatever one does, the other events stand.
        problem = failed(event.type)
    if problem is not None:
        return EventDecision(event, "rejected", problem), None
    changes = dict(effects.totals)
    if changes.get(XP) and effects.weekly:
        changes[weekly_xp(event.at_ms)] = changes[XP]
    return EventDecision(event, "accepted", effects=changes, at_ms=event.at_ms), effects


def limited() -> AbstractContextManager[None]:
    """The time that an app's own code may take for one event."""
    return time_limit(PROJECTION_LIMIT_S)


def failed(event_type: EventType) -> SynclineError:
    """The problem of an event whose type raised what it should not; to be called where it did."""
    log.exception("projection failed", type=event_type.name)
    detail = f"The type {event_type.name!r} failed on this event; the service's log says how."
    return SynclineError(Code.PROJECTION_FAILED, detail)


def _repeated(event: Event, seen: Recorded) -> EventDecision:
    if seen.digest == event.digest:
        return EventDecision(event, "duplicate", effects=seen.effects, at_ms=seen.at_ms)
    detail = "This id was used for another event: give each its own random id."
    return EventDecision(event, "rejected", SynclineError(Code.ID_REUSED, detail))


def _forbidden(event: Event, effects: Effects, known: Known) -> SynclineError | None:
    """What the type's limits, or those of a total, say against the effects."""
    for name, amount in effects.totals.items():
        reserved = name == EVENTS or (is_board(name) and name != XP)
        if type(amount) is not int or not TOTAL.fullmatch(name) or reserved:
            raise TypeError(f"no total can be changed by {name!r}: {amount!r}")
        cap = event.type.cap.get(name, MAX_INTEGER)
        if abs(amount) > cap:
            detail = f"One event of this type may add or take away {cap} of {name!r} at most."
            return SynclineError(Code.AMOUNT_OVER_CAP, detail, limit=cap, path="$.payload")
        total = known.total(name) + amount
        if abs(total) > MAX_INTEGER:
            detail = f"The total of {name!r} would be more than JSON can carry."
            return SynclineError(
                Code.AMOUNT_OVER_CAP, detail, limit=MAX_INTEGER - abs(known.total(name))
            )
        minimum = event.type.minimum.get(name)
        if minimum is not None and amount < 0 and total < minimum:
            detail = f"Events of this type may not take {name!r} below {minimum}."
            return SynclineError(Code.TOTAL_BELOW_MINIMUM, detail, limit=minimum, path="$.payload")
    return None
