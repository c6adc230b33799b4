"""The names of boards: `xp` of all time, and one a week of ISO 8601, in UTC."""

import re
from datetime import date

from app.errors import Code, SynclineError
from app.ledger.boards import XP, weekly_xp

ALL_TIME = XP
WEEK_MS = 7 * 86_400_000
THIS_WEEK = "xp:week"
_WEEK = re.compile(r"xp:([0-9]{4})-W([0-9]{2})")


def week_board(now_ms: int, weeks_ago: int = 0) -> str:
    """The board of the week that holds a time, or of an earlier one, such as `xp:2026-W49`."""
    return weekly_xp(now_ms - weeks_ago * WEEK_MS)


def kept_board(name: str, now_ms: int, kept_weeks: int) -> str:
    """The board that a caller names, as it is stored; raises BOARD_NOT_FOUND.

    There are boards of this week and the `kept_weeks` before it, whether anybody is on them or not.
    """
    if name == ALL_TIME:
        return name
    if name == THIS_WEEK:
        return week_board(now_ms)
    # Names of weeks are in the order of their weeks.
    if is_week(name) and week_board(now_ms, kept_weeks) <= name <= week_board(now_ms):
        return name
    raise SynclineError(
        Code.BOARD_NOT_FOUND,
        f"There are `{ALL_TIME}`, `{THIS_WEEK}`, and the last weeks by name, such as "
        f"`{week_board(now_ms, 1)}`.",
    )


def is_outdated(board: str, now_ms: int, kept_weeks: int) -> bool:
    """Whether it is the board of a week that is not kept any more."""
    return is_week(board) and board < week_board(now_ms, kept_weeks)


def is_week(board: str) -> bool:
    """Whether it is the name of a week that the calendar has."""
    found = _WEEK.fullmatch(board)
    if found is None:
        return False
    try:
        date.fromisocalendar(int(found[1]), int(found[2]), 1)
    except ValueError:
        return False
    return True
