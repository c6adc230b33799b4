"""How asyncpg looks at the arrays of a statement, made cheaper.

It asks of each item whether that is an array itself, by abstract classes of `collections.abc`,
which is dear, and a write has dozens of items. Arrays are lists here, and to ask for a list is
cheap. Figures are in docs/decisions.
"""

from asyncpg.protocol import protocol

ARRAYS = (list, tuple)
ASKED_FOR = ("IterableABC", "SizedABC")
"""What asyncpg calls the classes, in a module of its own."""


def only_lists_are_arrays() -> None:
    """From now on asyncpg takes nothing but lists and tuples for arrays, in this process."""
    for name in ASKED_FOR:
        setattr(protocol, name, ARRAYS)
