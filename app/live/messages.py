"""What processes say to each other: an account has reached a sequence, or its presence changed.

Hints, and no more: one that is lost, doubled, late or made up costs at most a look.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

MOST_BYTES = 7_900
"""PostgreSQL takes less than 8,000 in one notification."""
_ENVELOPE_BYTES = 200


class Message(msgspec.Struct, omit_defaults=True, rename={"sender": "from"}):
    sender: UUID
    reached: dict[str, Annotated[int, Meta(ge=0, le=2**63 - 1)]] = {}
    presence: list[str] = []
    """Accounts whose presence changed."""
    connects: bool = False
    """The sender is new, or was away: what it committed meanwhile nobody told."""
    listens: bool = False
    """The sender has sockets from now on: whoever thought that nobody listens has to tell it."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


def encode(message: Message) -> str:
    return _encode(message).decode()


def decode(text: str | bytes) -> Message | None:
    """None: it is not of ours."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def messages(
    sender: UUID, reached: Mapping[str, int], presence: Iterable[str]
) -> Iterator[Message]:
    """All of it, in messages that are small enough."""
    message, room = Message(sender), MOST_BYTES - _ENVELOPE_BYTES
    for account, seq in reached.items():
        room -= _size(account) + 20
        if room < 0:
            yield message
            message, room = Message(sender), MOST_BYTES - _ENVELOPE_BYTES - _size(account) - 20
        message.reached[account] = seq
    for account in presence:
        room -= _size(account)
        if room < 0:
            yield message
            message, room = Message(sender), MOST_BYTES - _ENVELOPE_BYTES - _size(account)
        message.presence.append(account)
    if message.reached or message.presence:
        yield message


def _size(account: str) -> int:
    """Bytes as JSON, with its quotes and a comma. No account has control characters."""
    return len(account.encode()) + account.count('"') + account.count("\\") + 4
