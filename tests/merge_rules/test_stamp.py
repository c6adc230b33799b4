"""Stamps order edits when clocks are wrong, and no clock is a reason to refuse."""

from hypothesis import example, given
from hypothesis import strategies as st

from merge_rules.stamp import SKEW_TOLERANCE_MS, ZERO, edit_stamp, successor
from merge_rules.testing import stamps
from tests.merge_rules.strategies import examples

NOW = 1_764_000_000_000
MINUTE = 60_000
anything = st.none() | st.integers()


@examples(200)
@given(anything, anything, st.integers(0, 2**60), st.none() | st.text(max_size=2))
@example(10**400, -(10**400), NOW, "a")
def test_an_edit_never_lies_in_the_future(
    edited_at: int | None, sent_at: int | None, now: int, device: str | None
) -> None:
    """An edit from the future would win every merge until the future comes."""
    wall, count, name = edit_stamp(edited_at, sent_at, now, device)
    assert 0 <= wall <= now
    assert count == 0
    assert name == (device or "")


def test_no_edit_time_is_now() -> None:
    """A client that sends no time loses nothing but the order of its offline edits."""
    assert edit_stamp(None, None, NOW, "a") == (NOW, 0, "a")
    assert edit_stamp(None, NOW - 9 * MINUTE, NOW, "a") == (NOW, 0, "a")


def test_an_edit_without_a_sending_time_stands_as_it_is() -> None:
    """Skew is only known from both clocks."""
    assert edit_stamp(NOW - 5 * MINUTE, None, NOW, "a") == (NOW - 5 * MINUTE, 0, "a")


@examples(100)
@given(st.integers(-SKEW_TOLERANCE_MS, SKEW_TOLERANCE_MS), st.integers(0, 10 * MINUTE))
@example(SKEW_TOLERANCE_MS, 0)
@example(-SKEW_TOLERANCE_MS, 0)
def test_a_small_skew_is_left_alone(skew: int, age: int) -> None:
    """Network delay looks like skew, so that up to two minutes no edit is moved."""
    sent = NOW - skew
    assert edit_stamp(sent - age, sent, NOW, "a")[0] == min(sent - age, NOW)


@examples(100)
@given(st.integers(SKEW_TOLERANCE_MS + 1, 10**12), st.booleans(), st.integers(0, 10 * MINUTE))
@example(SKEW_TOLERANCE_MS + 1, False, 0)
@example(SKEW_TOLERANCE_MS + 1, True, 0)
def test_a_large_skew_moves_the_edit_by_as_much(skew: int, ahead: bool, age: int) -> None:
    """A clock set to last year, or next year, still tells how long before sending the edit was."""
    sent = NOW + skew if ahead else NOW - skew
    assert edit_stamp(sent - age, sent, NOW, "a")[0] == NOW - age


@examples(100)
@given(stamps(), stamps(), st.sampled_from(["", "a", "b"]))
def test_the_successor_is_the_least_greater_stamp_of_a_device(
    stamp: tuple[int, int, str], other: tuple[int, int, str], device: str
) -> None:
    """An edit must pass the one it saw, and no other that it need not."""
    following = successor(stamp, device)
    assert following > stamp
    assert following[2] == device
    assert not (stamp[:2] < other[:2] and other < following and other[2] == device)
    assert following > ZERO
