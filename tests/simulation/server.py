"""The port behind which a server stands: the in-memory model, or the real service."""

from typing import Any, Literal, NamedTuple, Protocol

from merge_rules.canonical import encode

Json = dict[str, Any]

HISTORY = 4
"""Versions that the servers keep of a document: few, so that bases are forgotten often."""

SERVER_OWNED = ("totals", "profile")
"""Documents that the servers compute from events, and that no device writes."""

Crash = Literal["before", "after", "retried before", "retried after"]
"""When the server fails at its commit. It is gone, or (retried) only its connection is cut, and
it tries the batch again by itself."""

Documents = dict[str, tuple[int, bytes]]
"""Every document of an account: its version and its canonical bytes; `null` once deleted."""


Folded = dict[tuple[str, str], int]
"""By account and key, the version at which a document was folded last."""


class Reply(NamedTuple):
    """What comes back over the wire."""

    status: int
    body: Json


UNAVAILABLE = Reply(503, {"code": "database-unavailable"})


class Server(Protocol):
    """What the machine does to a server. All of it is synchronous and deterministic."""

    def sync(self, account: str, request: Json, crash: Crash | None = None) -> Reply:
        """`POST /v1/sync`. The server may crash at its commit; then it was restarted since.

        A request that is marked `alone` goes to the route of its document instead: `PUT`, `PATCH`
        or `DELETE /v1/documents/{key}`. It has one mutation and no cursor, and so has the answer.
        Or it has events alone, for `POST /v1/events`.
        """

    def overlap(self, account: str, first: Json, second: Json) -> tuple[Reply, Reply]:
        """Two requests at once: the second arrives when the first has read, before it commits."""

    def documents(self, account: str) -> Documents:
        """The documents as a store that holds nothing pulls them."""

    def accepted(self, account: str) -> frozenset[str]:
        """The ids of all mutations that are in the documents: harness only."""

    def recorded(self, account: str) -> frozenset[str]:
        """The ids of all events that are counted: harness only."""

    def audit(self, account: str) -> list[str]:
        """What does not add up, a sentence for each: harness only."""

    def fold(self, before_ms: int) -> None:
        """Housekeeping: forgets what only edits and devices from before a time could need."""

    def folded(self) -> Folded:
        """Which documents were folded: harness only."""

    def change_rules(self) -> None:
        """From now on the rules of `changed_rules` merge; what is stored is adopted by them."""

    def back_up(self) -> None:
        """Keeps all that the server holds."""

    def restore(self) -> None:
        """Goes back to what was backed up, in a new era."""


def canonical(value: Any) -> bytes:
    return encode(value)


def writes(request: Json) -> bool:
    """Whether there is anything in it to be committed."""
    return bool(request["mutations"] or request.get("events"))
