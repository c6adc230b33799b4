"""Levels and the dashboard on the wire."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from app.documents.types import Milliseconds

MOST_CORRECT = 100_000
MOST_XP = 1_000_000

CatalogueVersion = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="Version of the catalogue; 0: none was published")
]


Trend = Literal["improving", "steady", "declining"]


class DashboardQuery(msgspec.Struct, forbid_unknown_fields=True):
    today: (
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z",
                description="The day by the user's own calendar, YYYY-MM-DD; without it, by UTC",
            ),
        ]
        | None
    ) = None


class DashboardProfile(msgspec.Struct, frozen=True):
    """What all study sessions come to. `blink_speed`: seconds an answer, less is better.

    `streak_days`: up to today or yesterday; 0 once a day was missed. `last_session_date`: when
    the last study session ended.
    """

    display_name: str
    total_points: int
    blink_speed: float
    blink_speed_trend: Trend
    evolution_level: int
    total_sessions: int
    streak_days: int
    last_session_date: Milliseconds | None
    is_subscribed: bool


class DashboardProgress(msgspec.Struct, frozen=True):
    """How many stitches are completed, in all and of each thread that has some."""

    total_stitches_completed: int
    thread_progress: dict[str, int]


class RecentSession(msgspec.Struct, frozen=True):
    """A study session; `accuracy` in per cent, `blink_speed` null where none was measured."""

    id: UUID
    thread: str | None
    stitch: str | None
    total_points: int
    accuracy: float
    blink_speed: float | None
    completed_at: Milliseconds


class Dashboard(msgspec.Struct, frozen=True):
    """Everything of one moment; the last five study sessions, newest first."""

    profile: DashboardProfile
    progress: DashboardProgress
    recent_sessions: list[RecentSession]


class LevelEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What an attempt at a level is worth: `xp_reward` from `min_correct` correct answers on.

    `repeat`: `first` rewards the first passed attempt of an account, `every` each one.
    """

    level: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:~-]{1,128}\Z")]
    min_correct: Annotated[int, Meta(ge=0, le=MOST_CORRECT)]
    xp_reward: Annotated[int, Meta(ge=0, le=MOST_XP)]
    repeat: Literal["first", "every"] = "first"


class PublishLevels(msgspec.Struct, forbid_unknown_fields=True):
    """The whole catalogue; a level that is missing is no level any more.

    `version`: the one that the publisher saw, so that two do not overwrite each other; without
    it the catalogue replaces whatever is there.
    """

    levels: list[LevelEntry]
    version: CatalogueVersion | None = None


class Catalogue(msgspec.Struct, frozen=True):
    """The levels by name, and since when they are so; never changed, but followed by another."""

    version: CatalogueVersion
    published_at: Milliseconds | None
    levels: list[LevelEntry]


class Published(msgspec.Struct, frozen=True):
    """The version that holds the catalogue; an earlier one if that said the same."""

    version: CatalogueVersion
    published_at: Milliseconds
