"""Counts that are carried on are those that counting again would give."""

from hypothesis import given
from hypothesis import strategies as st

from app.leaderboard.ranking import Change, counts_of, ranks, settle

SCORES = st.integers(1, 12)
MAYBE = st.none() | SCORES


def counted(bounds: list[int], scores: list[int]) -> tuple[list[int], int]:
    return [sum(score >= bound for score in scores) for bound in bounds], len(scores)


@given(st.sets(st.integers(1, 13)), st.lists(st.tuples(MAYBE, MAYBE), max_size=20))
def test_settling_is_counting_again(
    bounds: set[int], moves: list[tuple[int | None, int | None]]
) -> None:
    """A count that drifts makes every rank below it wrong, for everybody, until it is noticed."""
    ascending = sorted(bounds)
    before = [old for old, _ in moves if old is not None]
    after = [new for _, new in moves if new is not None]
    in_bucket: dict[int, int] = {}
    for score in before:
        place = sum(bound <= score for bound in ascending)
        in_bucket[place] = in_bucket.get(place, 0) + 1
    counts = counts_of(ascending, in_bucket)
    assert (counts.above, counts.members) == counted(ascending, before)
    changes = [Change(str(number), new, old) for number, (old, new) in enumerate(moves)]
    settled = settle(counts, changes)
    assert (settled.above, settled.members) == counted(ascending, after)


@given(st.lists(SCORES, max_size=20), st.integers(0, 20), st.integers(1, 20))
def test_ranks_of_neighbours(scores: list[int], start: int, length: int) -> None:
    """Two counts are enough for all ranks of any part of a board."""
    board = sorted(scores, reverse=True)
    part = board[start : start + length]
    above = {
        score: sum(other > score for other in board) for score in list(dict.fromkeys(part))[:2]
    }
    expected = [1 + sum(other > score for other in board) for score in part]
    assert ranks(part, above) == expected
