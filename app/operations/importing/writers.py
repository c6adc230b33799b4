"""Where an import's mutations go: through the write path, or through its decisions alone."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from app.clock import Clock
from app.documents.decide import decide
from app.documents.documents import DocumentReader, Documents
from app.documents.model import Decision, Limits, Mutation, Own, Snapshot
from app.documents.submission import Submission
from app.errors import Code, SynclineError
from app.ledger.ledger import Ledger
from app.ledger.model import Event, EventDecision
from merge_rules.registry import Registry
from merge_rules.rule import Rule

PATIENCE_S = 300.0
"""How long the database may be away before an import stops; it goes on where it was."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
FORESEEN_AT_ONCE = 2
"""Accounts whose events are looked up at one time; more would wait for connections."""
MOST_FAILURES = 20
"""So many failures without a success between are no row's fault."""
PASSING = (Code.DATABASE_UNAVAILABLE, Code.OVERLOADED)

T = TypeVar("T")


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Tries again what fails because the database is away or busy, for as long as that may be."""
    pause_s, waited_s = FIRST_PAUSE_S, 0.0
    while True:
        try:
            return await work()
        except SynclineError as error:
            if error.code not in PASSING or waited_s > PATIENCE_S:
                raise
        await asyncio.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class Write:
    """Writes by the one write path, as devices do."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._failures = 0
        """How many things failed one after the other."""

    async def write(
        self, account: str, mutations: Sequence[Mutation], events: Sequence[Event]
    ) -> tuple[Sequence[Decision], Sequence[EventDecision]]:
        async def push() -> tuple[Sequence[Decision], Sequence[EventDecision]]:
            submission = Submission(account, mutations, events=events)
            decisions = await self._documents.push(submission)
            return decisions, submission.recorded

        try:
            decided = await patiently(push)
        except SynclineError as error:
            self._failures += 1
            if not self._is_of_the_content(error, mutations, events):
                raise
            return (
                [Decision(None, None, problem=error) for _ in mutations],
                [EventDecision(event, "rejected", error) for event in events],
            )
        self._failures = 0
        return decided

    def _is_of_the_content(
        self, error: SynclineError, mutations: Sequence[Mutation], events: Sequence[Event]
    ) -> bool:
        """Whether one thing failed by itself, and not because nothing can be written at all."""
        alone = len(mutations) + len(events) == 1
        return alone and error.code is Code.INTERNAL and self._failures < MOST_FAILURES


class Trial:
    """Decides as the write path would, each thing by itself, and writes nothing."""

    def __init__(
        self,
        reader: DocumentReader,
        ledger: Ledger,
        registry: Registry,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._registry = registry
        self._limits = limits
        self._clock = clock
        self._past = _NoPast(registry)
        self._at_once = asyncio.Semaphore(FORESEEN_AT_ONCE)

    async def write(
        self, account: str, mutations: Sequence[Mutation], events: Sequence[Event]
    ) -> tuple[Sequence[Decision], Sequence[EventDecision]]:
        decisions = await asyncio.gather(*(self._decide(account, one) for one in mutations))
        recorded = await self._foresee(account, events) if events else []
        return decisions, recorded

    async def _foresee(self, account: str, events: Sequence[Event]) -> list[EventDecision]:
        async def ask() -> list[EventDecision]:
            async with self._at_once:
                return await self._ledger.foresee(account, events)

        return await patiently(ask)

    async def _decide(self, account: str, mutation: Mutation) -> Decision:
        key = mutation.key
        current = await patiently(lambda: self._reader.read(account, (account, key)))
        rule = self._registry.rule_for(key)
        return decide(mutation, rule, current, self._past, self._limits, self._clock())


class _NoPast:
    """An import looks at nothing but the present document."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def base(self, key: str, version: int) -> Snapshot | None:
        return None

    def own(self, key: str, device: str, base: int) -> list[Own]:
        return []

    def epoch_began(self, current: Snapshot) -> Snapshot | None:
        return None

    def former_rule(self, fingerprint: str) -> Rule | None:
        return self._registry.made_by(fingerprint)
