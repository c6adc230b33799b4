"""What workers of one machine say to each other, as bytes.

A frame is a length of four bytes, most significant first, and a message in MessagePack of that
length. A frame without a message is a sign of life.
"""

import msgspec

from app.answer import Answer

LENGTH_BYTES = 4
LONGEST_BYTES = 1 << 30
"""Of a message; no body and no answer comes near it, so more is garbage."""
SIGN_OF_LIFE = bytes(LENGTH_BYTES)


class BrokenFrame(Exception):
    """What came is no frame, or no message that is expected here."""


class Handed(msgspec.Struct, array_like=True, gc=False):
    """A request that is handed over; `key` is of the document to put, None for a sync."""

    number: int
    account: str
    key: str | None
    body: bytes


class Reply(msgspec.Struct, array_like=True, gc=False):
    """What became of the request of that number; no answer: nothing was begun, and serve it
    yourself."""

    number: int
    answer: Answer | None


FAREWELL = Reply(0, None)
"""Of no request: who says it takes no further ones."""

_encode = msgspec.msgpack.Encoder().encode


def frame(message: Handed | Reply) -> bytes:
    text = _encode(message)
    return len(text).to_bytes(LENGTH_BYTES, "big") + text


class Splitter:
    """Finds the messages in bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now; raises BrokenFrame."""
        rest = self._rest
        rest += data
        messages, start = [], 0
        while (begin := start + LENGTH_BYTES) <= len(rest):
            length = int.from_bytes(rest[start:begin], "big")
            if length > LONGEST_BYTES:
                raise BrokenFrame(f"a message of {length} bytes")
            if begin + length > len(rest):
                break
            start = begin + length
            messages.append(bytes(rest[begin:start]))
        del rest[:start]
        return messages


_decode_handed = msgspec.msgpack.Decoder(Handed).decode
_decode_reply = msgspec.msgpack.Decoder(Reply).decode


def handed(message: bytes) -> Handed:
    """Raises BrokenFrame."""
    try:
        return _decode_handed(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenFrame(str(error)) from error


def reply(message: bytes) -> Reply:
    """Raises BrokenFrame."""
    try:
        return _decode_reply(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BrokenFrame(str(error)) from error
