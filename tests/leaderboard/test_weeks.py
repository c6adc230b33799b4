"""Weeks are those of ISO 8601, in UTC."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Code, SynclineError
from app.leaderboard.weeks import is_outdated, is_week, kept_board, week_board

WEEK_MS = 7 * 86_400_000
TIMES = st.integers(60 * WEEK_MS, 4_102_444_800_000)


def at(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("time_ms", "board"),
    [
        (at(2026, 11, 30), "xp:2026-W49"),
        (at(2026, 11, 30) - 1, "xp:2026-W48"),
        (at(2026, 12, 31), "xp:2026-W53"),
        (at(2027, 1, 3, 23, 59, 59), "xp:2026-W53"),
        (at(2027, 1, 4), "xp:2027-W01"),
        (at(2024, 12, 30), "xp:2025-W01"),
    ],
)
def test_the_week_of_a_time(time_ms: int, board: str) -> None:
    """A week begins on Monday at midnight, and belongs to the year that has its Thursday."""
    assert week_board(time_ms) == board


@given(TIMES, st.integers(0, 60))
def test_names_are_in_the_order_of_their_weeks(now_ms: int, weeks: int) -> None:
    """What is kept and what is pruned is decided by comparing names."""
    earlier = week_board(now_ms, weeks)
    assert is_week(earlier)
    assert (earlier < week_board(now_ms)) == (weeks > 0)
    assert kept_board(earlier, now_ms, weeks) == earlier
    assert not is_outdated(earlier, now_ms, weeks)
    if weeks > 0:
        assert is_outdated(earlier, now_ms, weeks - 1)
        with pytest.raises(SynclineError) as raised:
            kept_board(earlier, now_ms, weeks - 1)
        assert raised.value.code is Code.BOARD_NOT_FOUND


@given(st.text(max_size=12) | st.from_regex(r"xp:[0-9]{4}-W[0-9]{2}", fullmatch=True))
def test_any_text_is_a_board_or_none(name: str) -> None:
    """A name from outside decides what is read: it is known, or refused."""
    now_ms = at(2026, 11, 30)
    known = ["xp", "xp:week", *(week_board(now_ms, ago) for ago in range(13))]
    if name in known:
        assert kept_board(name, now_ms, 12) in known
    else:
        with pytest.raises(SynclineError) as raised:
            kept_board(name, now_ms, 12)
        assert raised.value.code is Code.BOARD_NOT_FOUND
