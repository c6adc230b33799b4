"""Which totals are the scores of leaderboards: XP of all time, and of each week."""

import re
from datetime import UTC, datetime

XP = "xp"
_BOARD = re.compile(r"xp(:[0-9]{4}-W[0-9]{2})?")


def week_of(at_ms: int) -> str:
    """The ISO week of a time, in UTC, such as `2026-W49`."""
    year, week, _ = datetime.fromtimestamp(at_ms / 1000, UTC).isocalendar()
    return f"{year}-W{week:02}"


def weekly_xp(at_ms: int) -> str:
    """The total of the XP of a week, such as `xp:2026-W49`; its leaderboard has the same name."""
    return f"{XP}:{week_of(at_ms)}"


def is_board(total: str) -> bool:
    return _BOARD.fullmatch(total) is not None
