"""Comparing states and values to the byte, where == would confuse True, 1 and 1.0."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from merge_rules.rule import ABSENT

_encoder = msgspec.json.Encoder(order="sorted")
_INFINITY = float("inf")


def exact(thing: Any) -> bytes:
    """Bytes that tell True, 1 and 1.0 apart; tuples read as arrays, ABSENT as itself alone."""
    return b"<absent>" if thing is ABSENT else _encoder.encode(thing)


def same(a: Any, b: Any) -> bool:
    return exact(a) == exact(b)


def one_of_exactly(thing: Any, candidates: Iterable[Any]) -> bool:
    return exact(thing) in {exact(candidate) for candidate in candidates}


def unchanged_by(*inputs: Any) -> Callable[[], None]:
    """Remembers the inputs; the function it returns fails if a call mutated one of them."""
    before = [exact(item) for item in inputs]

    def verify() -> None:
        assert [exact(item) for item in inputs] == before, "an input was mutated"

    return verify


def is_plain(thing: Any) -> bool:
    """Whether it is made of JSON's types and tuples alone, as states must be."""
    match thing:
        case None | bool() | int() | str():
            return True
        case float():
            return thing == thing and abs(thing) != _INFINITY
        case list() | tuple():
            return all(map(is_plain, thing))
        case dict():
            return all(isinstance(key, str) and is_plain(item) for key, item in thing.items())
        case _:
            return False
