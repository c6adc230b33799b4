"""What is submitted to the write path: changes of one account, and who asks for them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.documents.model import Decision, Mutation
from app.errors import SynclineError
from app.ledger.model import Event, EventDecision


@dataclass(slots=True, eq=False)
class Submission:
    """Mutations and then events of one account, applied in order in one transaction."""

    account: str
    mutations: Sequence[Mutation]
    device: str | None = None
    """The device that syncs, where its local store is to be told from a copy of it."""
    numbered: bool = False
    """Whether the device says what it knows to be acknowledged, so that its mutations have
    numbers by which a copy of its store can be told."""
    checks_fork: bool = False
    previous: UUID | None = None
    """The last mutation that the device knows to be acknowledged."""
    after: int = 0
    """The sequence up to which the caller has seen changes; past the head it is of a lost past."""
    of_this_era: Callable[[], bool] = lambda: True
    """Whether `after` counts the changes of this database, and not of one from before a restore."""
    together: Sequence[Mutation] = ()
    """All that the device sent, where these are committed apart from the rest of it."""
    events: Sequence[Event] = ()
    recorded: list[EventDecision] = field(default_factory=list)
    """What became of each event, once there is an answer."""
    seqs: tuple[int, int] | None = None
    """The sequence of the account just before and just after, once there is an answer: what lies
    between was changed by this and nothing else. None where that is not known."""
    era: str | None = None
    """Of the database, when this was committed to it."""
    answer: "asyncio.Future[list[Decision] | SynclineError]" = field(init=False)
    """A decision for each mutation, or why there is none for the whole. Made by who commits it, as
    to look the running loop up takes a system call."""

    @property
    def size(self) -> int:
        return len(self.mutations) + len(self.events)
