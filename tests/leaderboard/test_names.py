"""What a board calls a player."""

import unicodedata

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from app.leaderboard.names import (
    ADJECTIVES,
    ANIMALS,
    LONGEST_NAME,
    invented_name,
    shown_avatar,
    shown_name,
)

KEY = b"k" * 32
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@given(ANYTHING)
@example("\u200d\u200d")
@example("\u0000")
@example("a\u2028b")
@example("x" * LONGEST_NAME)
@example("\u202e" * 50 + "Ada")
def test_whatever_is_written_a_line_is_shown(written: object) -> None:
    """A name is one visible line of bounded length, and never turns what stands beside it."""
    name = shown_name("a", msgspec.json.encode(written).decode(), KEY)
    assert 0 < len(name) <= LONGEST_NAME
    assert name == name.strip()
    assert not {"Cc", "Cs", "Zl", "Zp"} & {unicodedata.category(one) for one in name}
    assert not {"\u202e", "\u2066", "\u200f"} & set(name)
    if not isinstance(written, str):
        assert name == invented_name("a", KEY)


def test_names_keep_what_people_write() -> None:
    """Other scripts, joined emoji and accents are names like any other."""
    for name in ("Ada", "Zoë", "李小龙", "👩‍🚀 Eva", "محمد", "नमस्ते"):
        assert shown_name("a", msgspec.json.encode(name).decode(), KEY) == name
        assert shown_avatar(msgspec.json.encode(name).decode()) == name


@given(st.text(min_size=1, max_size=128), st.binary(min_size=32, max_size=32))
def test_an_invented_name_is_of_the_account_and_the_key(account: str, key: bytes) -> None:
    """The same each time, a friendly one, and another under another key."""
    name = invented_name(account, key)
    assert name == invented_name(account, key)
    adjective, animal, number = name.split(" ")
    assert adjective in ADJECTIVES
    assert animal in ANIMALS
    assert 100 <= int(number) < 1000


def test_invented_names_seldom_meet() -> None:
    """Among the first hundred of a board two of one name would be taken for one player."""
    names = [invented_name(f"account-{number}", KEY) for number in range(1000)]
    assert len(set(names)) >= 997
    assert len(set(ADJECTIVES)) == len(ADJECTIVES) == 64
    assert len(set(ANIMALS)) == len(ANIMALS) == 64
    assert names != [invented_name(f"account-{number}", b"x" * 32) for number in range(1000)]
