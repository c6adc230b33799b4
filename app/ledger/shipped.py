"""The event types that ship: `xp`, `attempt` and `session`."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.ledger.boards import XP
from app.ledger.event_type import (
    Effects,
    EventRefused,
    EventType,
    EventTypes,
    Known,
    Occasion,
    Reads,
)
from app.ledger.profile import counted, joined, on_day, sampled
from merge_rules.rule import Rule, State

SESSIONS = "study:sessions"
XP_CAP = 10_000
POINTS_CAP = 100_000
SPEED_LIMIT_S = 3_600.0

Count = Annotated[int, Meta(ge=0, le=100_000)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:~-]{1,128}\Z")]
Part = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~-]{1,60}\Z")]
"""Without a colon, since `lesson:{thread}:{stitch}` is the key of a document."""
Amount = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]


# --- xp -------------------------------------------------------------------------------------------


class Xp(msgspec.Struct, forbid_unknown_fields=True):
    """XP that an app has reckoned itself; signed."""

    amount: Amount
    game: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


def _project_xp(payload: Xp, occasion: Occasion, known: Known) -> Effects:
    return Effects({XP: payload.amount})


def xp(cap: int = XP_CAP, minimum: int | None = None) -> EventType:
    """The type `xp`, with a cap of one's own, and a total below which it refuses to go."""
    return EventType(
        XP,
        Xp,
        _project_xp,
        cap={XP: cap},
        minimum={} if minimum is None else {XP: minimum},
    )


# --- attempt --------------------------------------------------------------------------------------


class Attempt(msgspec.Struct, forbid_unknown_fields=True):
    """A finished level. What it is worth says the catalogue, never the client."""

    level: Name
    total_questions: Count
    correct_answers: Count
    score: Annotated[float, Meta(ge=-(2**53) + 1, le=2**53 - 1)] = 0
    time_spent_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 0


def completed(level: str) -> str:
    """The total that counts the passed attempts at a level."""
    return f"completed:{level}"


def _reads_of_attempt(payload: Attempt) -> Reads:
    return Reads([completed(payload.level)], [payload.level])


def _project_attempt(payload: Attempt, occasion: Occasion, known: Known) -> Effects:
    level = known.level(payload.level)
    _refuse_more_correct(payload.correct_answers, payload.total_questions)
    if payload.correct_answers < level.min_correct:
        return Effects({XP: 0})
    name = completed(payload.level)
    repeated = level.repeat == "first" and known.total(name) > 0
    return Effects({XP: 0 if repeated else level.xp_reward, name: 1})


def _refuse_more_correct(correct: int, total: int) -> None:
    if correct > total:
        raise EventRefused("`correct_answers` cannot be more than `total_questions`")


# --- session --------------------------------------------------------------------------------------


class StudySession(msgspec.Struct, forbid_unknown_fields=True):
    """A finished study session; `blink_speed` in seconds an answer, less is better."""

    thread: Part
    stitch: Part
    total_questions: Count = 0
    correct_answers: Count = 0
    points: Amount = 0
    blink_speed: Annotated[float, Meta(gt=0, le=SPEED_LIMIT_S)] | None = None
    results: list[Any] = []


def accuracy(correct: int, total: int) -> float:
    """Per cent of the answers that were correct; 0 of none."""
    return correct / total * 100 if total else 0.0


def _project_session(payload: StudySession, occasion: Occasion, known: Known) -> Effects:
    _refuse_more_correct(payload.correct_answers, payload.total_questions)
    return Effects(
        {"points": payload.points, SESSIONS: 1},
        lambda rule, state: studied(payload, occasion, rule, state),
    )


def studied(payload: StudySession, occasion: Occasion, rule: Rule, state: State) -> State:
    """What a study session adds to the document `profile`."""
    speed = payload.blink_speed
    last = {
        "id": str(occasion.id),
        "thread": payload.thread,
        "stitch": payload.stitch,
        "points": payload.points,
        "accuracy": accuracy(payload.correct_answers, payload.total_questions),
        "blink_speed": speed,
        "completed_at": occasion.at_ms,
    }
    streak, best = rule.child("streak"), rule.child("last_session")
    assert streak is not None
    assert best is not None
    deltas = [
        counted(rule, state, "total_points", payload.points),
        counted(rule, state, "total_sessions", 1),
        {"streak": streak.delta(streak.bottom, on_day(occasion.at_ms), (occasion.at_ms, 0, ""))},
        {"last_session": best.delta(best.bottom, last, (occasion.at_ms, 0, ""))},
    ]
    if speed is not None:
        deltas.append(sampled("blink_speed", occasion.at_ms, occasion.id, speed))
    return joined(rule, *deltas)


SHIPPED = (
    xp(),
    EventType("attempt", Attempt, _project_attempt, reads=_reads_of_attempt),
    EventType(
        "session",
        StudySession,
        _project_session,
        cap={"points": POINTS_CAP},
        reads=lambda _: Reads([SESSIONS]),
    ),
)


def shipped_event_types() -> EventTypes:
    """The shipped types, each of which an app may replace."""
    return EventTypes(SHIPPED)
