"""What processes say to each other, as text."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.live.messages import MOST_BYTES, Message, decode, encode, messages

SENDER = UUID(int=7)
ACCOUNTS = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from('"\\ü😀'),
    min_size=1,
    max_size=128,
)


@given(
    reached=st.dictionaries(ACCOUNTS, st.integers(0, 2**63 - 1), max_size=120),
    presence=st.sets(ACCOUNTS, max_size=120),
)
def test_messages_fit_and_hold_everything(reached: dict[str, int], presence: set[str]) -> None:
    """PostgreSQL refuses a longer one, and with it all that it said."""
    found: dict[str, int] = {}
    present: list[str] = []
    for message in messages(SENDER, reached, presence):
        text = encode(message)
        assert len(text.encode()) <= MOST_BYTES
        assert decode(text) == message
        found |= message.reached
        present += message.presence
    assert found == reached
    assert sorted(present) == sorted(presence)


def test_many_long_accounts_take_several_messages() -> None:
    """The property above must not hold only because everything fits into one."""
    reached = {f"{'ü' * 120}{number}": number for number in range(100)}
    assert len(list(messages(SENDER, reached, reached))) > 3


@given(text=st.text() | st.binary())
def test_anything_else_is_no_message(text: str | bytes) -> None:
    """A channel may be shared with strangers."""
    assert decode(text) is None or isinstance(decode(text), Message)
