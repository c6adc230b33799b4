"""What a board shows of a player: the name and avatar that it gave itself, or an invented name.

An account's id is shown to nobody. An invented name is made from a keyed hash of it, so that
it stays the same and leads nowhere.
"""

import unicodedata
from hashlib import blake2b
from typing import Any

import msgspec

LONGEST_NAME = 40
LONGEST_AVATAR = 256
"""In characters; what is longer counts as absent."""
NUMBERS = 900

ADJECTIVES = (
    "Able", "Agile", "Amber", "Ample", "Azure", "Bold", "Brave", "Breezy", "Bright", "Brisk",
    "Calm", "Candid", "Cheery", "Clever", "Coral", "Cosy", "Curious", "Daring", "Deft", "Eager",
    "Early", "Fair", "Fleet", "Fond", "Frank", "Gentle", "Glad", "Golden", "Grand", "Happy",
    "Hardy", "Honest", "Humble", "Jolly", "Keen", "Kind", "Lively", "Loyal", "Lucky", "Lunar",
    "Merry", "Mighty", "Modest", "Neat", "Nimble", "Noble", "Patient", "Plucky", "Polite", "Proud",
    "Quick", "Quiet", "Ready", "Silver", "Smart", "Snug", "Solar", "Steady", "Sunny", "Swift",
    "Tidy", "Tranquil", "Warm", "Wise",
)  # fmt: skip
ANIMALS = (
    "Alpaca", "Badger", "Beaver", "Bison", "Bobcat", "Camel", "Canary", "Caribou", "Cheetah",
    "Cricket", "Curlew", "Dingo", "Dolphin", "Eagle", "Egret", "Falcon", "Ferret", "Finch",
    "Fox", "Gazelle", "Gecko", "Gibbon", "Hare", "Hedgehog", "Heron", "Ibex", "Ibis", "Impala",
    "Jaguar", "Kestrel", "Kiwi", "Koala", "Lark", "Lemur", "Leopard", "Lynx", "Magpie", "Marmot",
    "Marten", "Mongoose", "Moose", "Narwhal", "Ocelot", "Oriole", "Otter", "Owl", "Panda",
    "Pelican", "Penguin", "Puffin", "Quail", "Rabbit", "Raven", "Robin", "Seal", "Sparrow",
    "Squirrel", "Stork", "Swallow", "Tapir", "Tiger", "Toucan", "Walrus", "Wren",
)  # fmt: skip

_BARE = {"Cc", "Cs", "Zl", "Zp"}
"""Categories that are no part of a line of text: controls, halves of pairs, ends of lines."""
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what follows, and could turn the rest of a board."""
_UNSEEN = {"Cf", "Cn", "Co", "Mn", "Me", "Zs"}
"""Categories of which no name may consist alone, since nothing would be seen of it."""


def shown_name(account: str, written: str | None, key: bytes) -> str:
    """The name that a player gave itself, as JSON; an invented one where that does not serve."""
    return _line(written, LONGEST_NAME) or invented_name(account, key)


def shown_avatar(written: str | None) -> str | None:
    """The avatar that a player gave itself, as JSON; None where it does not serve."""
    return _line(written, LONGEST_AVATAR)


def invented_name(account: str, key: bytes) -> str:
    """Always the same for an account and a key; without the key nobody finds the account."""
    digest = blake2b(account.encode(), key=key, digest_size=8, person=b"name").digest()
    number = int.from_bytes(digest)
    number, animal = divmod(number, len(ANIMALS))
    number, adjective = divmod(number, len(ADJECTIVES))
    return f"{ADJECTIVES[adjective]} {ANIMALS[animal]} {100 + number % NUMBERS}"


def namespace(key: bytes) -> str:
    """A name for this deployment among others, which tells nothing of the key."""
    return blake2b(key=key, digest_size=6, person=b"redis").hexdigest()


def _line(written: str | None, longest: int) -> str | None:
    """The text of a JSON string as one visible line of bounded length; None if it is no such."""
    if written is None:
        return None
    value: Any = msgspec.json.decode(written)
    if not isinstance(value, str):
        return None
    line = "".join(one for one in value if not _is_stripped(one)).strip()
    if len(line) > longest or all(unicodedata.category(one) in _UNSEEN for one in line):
        return None
    return line


def _is_stripped(character: str) -> bool:
    return unicodedata.category(character) in _BARE or character in _TURNING
