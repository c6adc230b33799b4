"""The bytes between workers: whatever pieces they come in, the messages are the same."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.answer import Answer
from app.neighbours.frames import (
    LONGEST_BYTES,
    SIGN_OF_LIFE,
    BrokenFrame,
    Handed,
    Reply,
    Splitter,
    frame,
    handed,
    reply,
)

numbers = st.integers(0, 2**63 - 1)
requests = st.builds(
    Handed, numbers, st.text(max_size=128), st.none() | st.text(max_size=9), st.binary(max_size=300)
)
headers = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3)
answers = st.builds(Answer, st.integers(100, 599), headers, st.binary(), st.binary(max_size=9))
replies = st.builds(Reply, numbers, st.none() | answers)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """The messages found in the data when it comes in these pieces."""
    splitter = Splitter()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [one for a, b in pairwise(places) for one in splitter.feed(data[a:b])]


@given(st.lists(requests | st.none()), st.lists(st.integers(0, 10_000)))
def test_requests_come_whole_however_they_are_cut(
    sent: list[Handed | None], cuts: list[int]
) -> None:
    """A stream has no borders of its own. None stands for a sign of life."""
    data = b"".join(SIGN_OF_LIFE if one is None else frame(one) for one in sent)
    found = [handed(message) if message else None for message in split(data, cuts)]
    assert found == sent


@given(st.lists(replies), st.lists(st.integers(0, 10_000)))
def test_replies_come_whole_however_they_are_cut(sent: list[Reply], cuts: list[int]) -> None:
    """An answer stays an `Answer`: headers as pairs of bytes, and the media type."""
    found = [reply(message) for message in split(b"".join(map(frame, sent)), cuts)]
    assert found == sent
    assert all(one.answer is None or type(one.answer) is Answer for one in found)


@given(st.binary(max_size=200))
def test_garbage_is_known_for_what_it_is(data: bytes) -> None:
    """No other exception may come of it, or it would not close the link."""
    for read in (handed, reply):
        try:
            for message in Splitter().feed(data):
                read(message)
        except BrokenFrame:
            pass


def test_no_length_makes_a_process_wait_for_gigabytes() -> None:
    """Garbage would be collected in memory otherwise."""
    with pytest.raises(BrokenFrame):
        Splitter().feed((LONGEST_BYTES + 1).to_bytes(4, "big"))
