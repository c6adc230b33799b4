"""Imports the rows of one source: reads chunks, writes them by the one write path, keeps count.

A chunk counts as done once everything in it is committed; then its end is kept. After a crash at
any moment the rows since then are read again, and repeating them changes nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import msgspec

from app.clock import Clock
from app.documents.model import Decision, Mutation
from app.errors import Code, SynclineError
from app.ledger.model import Event, EventDecision
from app.operations.importing.rejects import Rejects
from app.operations.importing.room import Room
from app.operations.importing.rows import Row
from app.operations.importing.source import Chunk, Source, Unreadable
from app.operations.importing.tally import Progress, Tally
from app.operations.importing.translate import ROW, Rejection, Translated, Translator

CHUNKS_IN_FLIGHT = 3
IN_FLIGHT = 2_048
"""Mutations and events that are submitted and not yet answered."""
PIECE = 256
"""Mutations of one account that are submitted together."""


class Writer(Protocol):
    """What takes mutations and events: the write path, or a trial of it."""

    async def write(
        self, account: str, mutations: Sequence[Mutation], events: Sequence[Event]
    ) -> tuple[Sequence[Decision], Sequence[EventDecision]]: ...


class Keeper(Protocol):
    """Where the progress is kept."""

    async def read(self) -> Progress | None: ...

    async def write(self, progress: Progress) -> None: ...


@dataclass(slots=True)
class _Read:
    """A row and what it becomes."""

    row: Row | Unreadable
    translated: Translated
    rejections: list[Rejection]


@dataclass(slots=True, frozen=True)
class _Item:
    """One thing that a row becomes."""

    read: _Read
    target: str
    what: Mutation | Event

    def tell(self, tally: Tally, outcome: str, problem: SynclineError | None) -> None:
        if problem is None:
            tally.count(self.target, outcome)
        else:
            self.read.rejections.append(Rejection(self.target, problem.code, problem.detail))


@dataclass(slots=True)
class _Done:
    """A chunk of which all is committed."""

    chunk: Chunk
    rows: list[_Read]
    tally: Tally


@dataclass(slots=True)
class Importer:
    """One run over one source."""

    translator: Translator
    source: Source
    writer: Writer
    keeper: Keeper
    rejects: Rejects
    clock: Clock
    advance: Callable[[Progress], None] = field(default=lambda _: None)
    """Is told how far it has come after each chunk."""
    _used: set[str] = field(init=False)
    _room: Room = field(init=False)

    def __post_init__(self) -> None:
        self._used = self.translator.mapping.used_columns()
        self._room = Room(IN_FLIGHT)

    @property
    def _identity(self) -> str:
        content = msgspec.json.encode([self.translator.mapping, self.source.identity])
        return blake2b(content, digest_size=16).hexdigest()

    async def start(self, *, afresh: bool = False) -> Progress:
        """From where it goes on: where an earlier run of the same was stopped, else the start."""
        known = await self.keeper.read()
        if afresh or known is None or known.finished or known.identity != self._identity:
            self.rejects.go_on(0)
            return Progress(self._identity)
        if not self.rejects.go_on(known.rejects_bytes):
            known.rejects_bytes = self.rejects.written
        return known

    async def run(self, progress: Progress) -> Progress:
        """Imports everything behind the position that `start` gave.

        Raises SourceError where reading fails, SynclineError where the database does, for longer
        than the writer tries; what is done stays done.
        """
        pending: deque[asyncio.Task[_Done]] = deque()
        try:
            async for chunk in self.source.chunks(progress.end):
                rows = await self._translate(chunk)
                pending.append(asyncio.create_task(self._write(chunk, rows)))
                if len(pending) == CHUNKS_IN_FLIGHT:
                    await self._settle(progress, await pending.popleft())
            while pending:
                await self._settle(progress, await pending.popleft())
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        progress.finished = True
        await self.keeper.write(progress)
        return progress

    async def _translate(self, chunk: Chunk) -> list[_Read]:
        rows = []
        now_ms = self.clock()
        for number, row in enumerate(chunk.rows):
            if isinstance(row, Row):
                done = self.translator.translate(row, now_ms)
            else:
                done = Translated(rejections=[Rejection(ROW, row.reason, row.detail)])
            rows.append(_Read(row, done, done.rejections))
            if number % 64 == 63:
                await asyncio.sleep(0)  # those before are written meanwhile
        return rows

    async def _write(self, chunk: Chunk, rows: list[_Read]) -> _Done:
        tally = Tally(rows=len(rows))
        by_account: dict[str, list[_Item]] = {}
        for one in rows:
            row = one.row
            tally.passed_over += one.translated.skipped
            if isinstance(row, Row) and not one.translated.skipped:
                unused = row.columns.keys() - self._used
                tally.leave_out(name for name in unused if not row.is_empty(name))
            items = by_account.setdefault(one.translated.account, [])
            items += [_Item(one, target, what) for target, what in one.translated.mutations]
            items += [_Item(one, target, what) for target, what in one.translated.events]
        by_account = {account: items for account, items in by_account.items() if items}
        await asyncio.gather(
            *(self._write_account(account, items, tally) for account, items in by_account.items())
        )
        for one in rows:
            for rejection in one.rejections:
                tally.reject(rejection.target, rejection.code)
        return _Done(chunk, rows, tally)

    async def _write_account(self, account: str, items: Sequence["_Item"], tally: Tally) -> None:
        for start in range(0, len(items), PIECE):
            piece = items[start : start + PIECE]
            mutations = [one.what for one in piece if isinstance(one.what, Mutation)]
            events = [one.what for one in piece if isinstance(one.what, Event)]
            async with self._room.taken(len(piece)):
                decided, recorded = await self.writer.write(account, mutations, events)
            decisions, event_decisions = iter(decided), iter(recorded)
            for one in piece:
                if isinstance(one.what, Mutation):
                    one.tell(tally, *_of_mutation(one.what, next(decisions)))
                else:
                    one.tell(tally, *_of_event(next(event_decisions)))

    async def _settle(self, progress: Progress, done: _Done) -> None:
        """The report first, then the position: a crash between the two leaves it too long, and
        `start` cuts it."""
        for one in done.rows:
            if one.rejections:
                self.rejects.write(one.row, one.rejections)
        self.rejects.flush()
        progress.tally.add(done.tally)
        progress.end = done.chunk.end
        progress.size += done.chunk.size
        progress.rejects_bytes = self.rejects.written
        await self.keeper.write(progress)
        self.advance(progress)


def _of_mutation(mutation: Mutation, decision: Decision) -> tuple[str, SynclineError | None]:
    """The outcome by its name, and the problem of a rejected one."""
    key = mutation.key
    if decision.problem is not None:
        problem = decision.problem
        return "rejected", SynclineError(problem.code, f"{key}: {problem.detail}")
    if decision.outcome == "superseded":
        detail = f"{key}: it was deleted or reset in Syncline, and that stands."
        return "superseded", SynclineError(Code.DOCUMENT_DELETED, detail)
    if decision.outcome == "applied" and decision.created:
        return "created", None
    return str(decision.outcome), None


def _of_event(decision: EventDecision) -> tuple[str, SynclineError | None]:
    return decision.outcome, decision.problem
