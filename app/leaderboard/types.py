"""Leaderboards on the wire."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

DEFAULT_LIMIT = 10


class BoardQuery(msgspec.Struct, forbid_unknown_fields=True):
    limit: Annotated[
        int, Meta(ge=1, le=100, description="Entries, at most: 1 to 100, by default 10")
    ] = DEFAULT_LIMIT
    around: Annotated[
        Literal["me"] | UnsetType,
        Meta(description="`me`: the entries around the caller, as many above as below"),
    ] = UNSET


class BoardEntry(msgspec.Struct):
    """An account on a board, without its id. `avatar` is whatever text the player wrote there."""

    rank: int
    name: str
    avatar: str | None
    score: int
    me: bool


class OwnStanding(msgspec.Struct):
    """Where the caller stands; `rank` is null for who is not on the board."""

    rank: int | None
    score: int


class BoardAnswer(msgspec.Struct):
    board: str
    entries: list[BoardEntry]
    me: OwnStanding


class RebuiltBoard(msgspec.Struct):
    """A board that was counted anew; `cached` where Redis has it, too."""

    board: str
    accounts: int
    cached: bool


class RebuildAnswer(msgspec.Struct):
    boards: list[RebuiltBoard]
