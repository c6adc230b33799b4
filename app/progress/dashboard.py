"""The dashboard: what an app shows first, made of documents and study sessions of one moment."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from app.clock import Clock
from app.database.engine import Database
from app.errors import Code, SynclineError
from app.ledger.shipped import accuracy
from app.progress import store
from app.progress.store import AccountMoment
from app.progress.types import (
    Dashboard,
    DashboardProfile,
    DashboardProgress,
    RecentSession,
    Trend,
)

T = TypeVar("T")
D = TypeVar("D")

RECENT_SESSIONS = 5
"""Shown, and needed before a trend is told."""
FIRST_SPEED_S = 2.5
"""What stands for the average speed before any was measured."""
IMPROVING, DECLINING = 0.9, 1.1
"""A recent average below or above so much of the long one is a trend; less time is better."""


class Dashboards:
    """The dashboards of all accounts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def read(self, account: str, today: str | None) -> Dashboard:
        """The dashboard; `today` by the user's calendar, as YYYY-MM-DD.

        Raises INVALID_REQUEST for a day that it is nowhere on earth just now.
        """
        day = day_of(self._clock(), today)
        moment = await self._database.read(
            lambda connection: store.read_account(connection, account, RECENT_SESSIONS)
        )
        return dashboard_of(moment, day)


def day_of(now_ms: int, today: str | None) -> date:
    """The day that the user calls today; raises INVALID_REQUEST.

    From one end of the earth to the other the calendars are a day before or after UTC's at most.
    """
    utc = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    if today is None:
        return utc
    try:
        day = date.fromisoformat(today)
    except ValueError:
        day = None
    if day is None or abs(day - utc) > timedelta(days=1):
        raise SynclineError(
            Code.INVALID_REQUEST,
            f"`today` is a day as YYYY-MM-DD, at most one before or after {utc}, the day in UTC.",
            path="$.today",
        )
    return day


def dashboard_of(moment: AccountMoment, today: date) -> Dashboard:
    """What the documents and study sessions say; what is missing or odd counts as absent."""
    profile, player = _object(moment.profile), _object(moment.player)
    threads: dict[str, int] = _object(moment.threads)
    sessions = [_session(one) for one in msgspec.json.decode(moment.sessions or "[]")]
    speed = _field(profile, "blink_speed", float, FIRST_SPEED_S)
    streak = _field(profile, "streak", dict[str, Any], {})
    return Dashboard(
        profile=DashboardProfile(
            display_name=_field(player, "display_name", str, ""),
            total_points=_field(profile, "total_points", int, 0),
            blink_speed=speed,
            blink_speed_trend=trend([one.blink_speed for one in sessions], speed),
            evolution_level=int(_field(profile, "evolution_level", float, 1.0)),
            total_sessions=_field(profile, "total_sessions", int, 0),
            streak_days=streak_days(streak, today),
            last_session_date=_last_session_ms(profile, streak),
            is_subscribed=_field(profile, "is_subscribed", bool, False),
        ),
        progress=DashboardProgress(sum(threads.values()), dict(sorted(threads.items()))),
        recent_sessions=sessions,
    )


def trend(speeds: Sequence[float | None], average: float) -> Trend:
    """Whether the last study sessions were faster or slower than the average of all.

    A session without a speed says nothing about it: as a 0 it would make everybody improve.
    """
    measured = [speed for speed in speeds if speed is not None]
    if len(speeds) < RECENT_SESSIONS or not measured:
        return "steady"
    recent = sum(measured) / len(measured)
    if recent < average * IMPROVING:
        return "improving"
    return "declining" if recent > average * DECLINING else "steady"


def streak_days(streak: Mapping[str, Any], today: date) -> int:
    """The streak as it stands today: it lives until a whole day has gone by without a session."""
    last = _last_day(streak)
    if last is None or last < today - timedelta(days=1):
        return 0
    return _field(streak, "current", int, 0)


def _last_day(streak: Mapping[str, Any]) -> date | None:
    try:
        return date.fromisoformat(_field(streak, "last", str, ""))
    except ValueError:
        return None


def _last_session_ms(profile: Mapping[str, Any], streak: Mapping[str, Any]) -> int | None:
    """When the last study session ended; the day of it, where an import knew no more."""
    session = _field(profile, "last_session", dict[str, Any], {})
    ended = _field(session, "completed_at", int, None)
    last = _last_day(streak)
    if ended is not None or last is None:
        return ended
    return int(datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp() * 1000)


def _session(row: Mapping[str, Any]) -> RecentSession:
    questions = _field(row, "total_questions", int, 0)
    correct = _field(row, "correct_answers", int, 0)
    return RecentSession(
        id=UUID(row["id"]),
        thread=_field(row, "thread", str, None),
        stitch=_field(row, "stitch", str, None),
        total_points=_field(row, "points", int, 0),
        accuracy=accuracy(correct, questions),
        blink_speed=_field(row, "blink_speed", float, None),
        completed_at=row["completed_at"],
    )


def _object(text: str | None) -> dict[str, Any]:
    """The members of a JSON object; none where the text is something else."""
    value = None if text is None else msgspec.json.decode(text)
    return value if isinstance(value, dict) else {}


def _field(holder: Mapping[str, Any], name: str, kind: type[T], default: D) -> T | D:
    """A member, if it is of its kind: documents hold what apps wrote, at times long ago."""
    try:
        return msgspec.convert(holder[name], kind)
    except (KeyError, msgspec.ValidationError):
        return default
