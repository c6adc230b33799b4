"""What an event type is: a schema, a cap, and a projection from the event to what it counts for.

Pure, as merge rules are: a projection reads the event and what its account had before, and says
what the event adds to which total. Totals only ever change by what events say, so the sum of
their effects is the total, and the ledger can be checked.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from merge_rules.rule import Rule, State

NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
TOTAL = re.compile(r"[A-Za-z0-9._:~-]{1,160}")
"""A name with a colon, such as `completed:intro-1`, is the service's own: no client sees it."""


class EventTypeError(Exception):
    """An event type that cannot be registered; the text says why."""


class EventRefused(Exception):
    """A projection raises it for an event that its type forbids; the text says what to do."""


class UnknownLevel(Exception):
    """An attempt at a level that is not in the catalogue."""


class Level(NamedTuple):
    """An entry of the catalogue: what an attempt at a level is worth."""

    level: str
    version: int
    """Of the catalogue."""
    min_correct: int
    """Correct answers from which on an attempt has passed."""
    xp_reward: int
    repeat: str
    """`every`: each passed attempt is rewarded; `first`: the first one only."""


class Known(Protocol):
    """What an account had before an event, of what its type said that it `reads`."""

    def total(self, name: str) -> int:
        """0 where nothing was counted yet. One with a colon only if the type said it reads it."""

    def level(self, level: str) -> Level:
        """The present entry of the catalogue; raises UnknownLevel."""


class Occasion(NamedTuple):
    """The event around a payload."""

    id: UUID
    at_ms: int
    """When it happened, set right by the service's clock."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What a projection asks `Known` for, beside the totals without a colon."""

    totals: Iterable[str] = ()
    levels: Iterable[str] = ()


ProfileStep = Callable[[Rule, State], State]
"""From the rule and the state of the document `profile` to what an event adds to it: a delta."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What an event counts for: what it adds to which total, and to the document `profile`."""

    totals: Mapping[str, int] = field(default_factory=dict)
    profile: ProfileStep | None = None
    weekly: bool = True
    """Whether its XP counts for the leaderboard of its week."""


Project = Callable[[Any, Occasion, Known], Effects]


def _reads_nothing(payload: Any) -> Reads:
    return Reads()


@dataclass(frozen=True)
class EventType:
    """A kind of events. Immutable and pure: the same event counts the same, whoever asks."""

    name: str
    payload: type[msgspec.Struct]
    """The schema; with `forbid_unknown_fields` a client cannot add what it should not name."""
    project: Project
    """Raises EventRefused or UnknownLevel. What else it raises rejects its own event alone."""
    cap: Mapping[str, int] = field(default_factory=dict)
    """By total: the most that one event may add or take away."""
    minimum: Mapping[str, int] = field(default_factory=dict)
    """By total: what no event of this type may take it below. Events that come in another order
    may then fare otherwise, so it is for what must not be overspent, and for nothing else."""
    reads: Callable[[Any], Reads] = _reads_nothing
    internal: bool = False
    """Whether clients cannot send it: an import does."""


class EventTypes:
    """Event types by name."""

    def __init__(self, shipped: Iterable[EventType] = ()) -> None:
        self._types: dict[str, EventType] = {}
        for one in shipped:
            self.register(one)
        self._shipped = set(self._types)

    def register(self, event_type: EventType) -> None:
        """Adds a type; one that ships with Syncline may be replaced once.

        Raises EventTypeError for anything else that is there already, or that cannot be used.
        """
        if not isinstance(event_type, EventType):
            raise EventTypeError(f"{event_type!r} is no EventType")
        name = event_type.name
        if not NAME.fullmatch(name):
            raise EventTypeError(f"{name!r}: the name of an event type is [a-z][a-z0-9_-]{{0,63}}")
        if name in self._types and name not in self._shipped:
            raise EventTypeError(f"{name!r} is registered twice; keep one of the two")
        if name in self._types and self._types[name].internal:
            raise EventTypeError(f"{name!r} is the service's own; choose another name")
        kind = event_type.payload
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            raise EventTypeError(f"{name!r}: its payload has to be a msgspec.Struct")
        for limits in (event_type.cap, event_type.minimum):
            for total, limit in limits.items():
                if not TOTAL.fullmatch(total) or type(limit) is not int:
                    raise EventTypeError(f"{name!r}: {total!r} cannot be limited to {limit!r}")
        self._shipped = getattr(self, "_shipped", set()) - {name}
        self._types[name] = event_type

    def get(self, name: str) -> EventType | None:
        return self._types.get(name)

    def registered(self) -> Mapping[str, EventType]:
        return dict(sorted(self._types.items()))
