"""Levels on the wire: what finishing each of them is worth."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from app.documents.types import Milliseconds

MOST_CORRECT = 100_000
MOST_XP = 1_000_000

CatalogueVersion = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="Version of the catalogue; 0: none was published")
]


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
