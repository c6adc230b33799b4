"""Push and pull in one round trip."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, UnsetType

from app.database.engine import Database
from app.database.era import Era
from app.documents.documents import Documents
from app.documents.gate import Gate
from app.documents.model import Decision, Mutation
from app.documents.reader import Reader
from app.documents.submission import Submission
from app.errors import Code, SynclineError, cursor_expired
from app.ledger.ledger import Ledger
from app.ledger.model import Event, EventDecision
from app.ledger.types import EventResult
from app.sync import store
from app.sync.cursor import Cursor, decode_cursor
from app.sync.mutations import Unread, read_mutation
from app.sync.results import fit, result_of, result_of_unread
from app.sync.store import Page, Pull
from app.sync.types import Change, MutationResult, SyncAnswer, SyncRequest

Puller = Reader[Pull, Page]
NoteDevice = Callable[[str, str, int, int | None], None]
"""Told with each answer where a device stands: account, device, the sequence up to which it has
seen changes, and how many mutations wait on it. It takes note and returns at once."""

WHOLE_ACCOUNT = 4
"""What a pull of everything counts among pulls of what is new."""
READ_AT_ONCE = 256 * 1024
"""Bytes of mutations that are decoded before other requests have their turn."""


@dataclass(frozen=True, slots=True)
class SyncLimits:
    mutations: int
    changes: int
    answer_bytes: int
    """Size of the documents in one answer; one fits whatever its size."""


class Exchange:
    """Takes a device's mutations and gives it what changed since its cursor."""

    def __init__(
        self,
        database: Database,
        documents: Documents,
        ledger: Ledger,
        puller: Puller,
        era: Era,
        limits: SyncLimits,
        note_device: NoteDevice = lambda *_: None,
    ) -> None:
        self._database = database
        self._documents = documents
        self._ledger = ledger
        self._puller = puller
        self._era = era
        self._limits = limits
        self._note_device = note_device

    @property
    def era(self) -> str:
        """The newest era that this process has met."""
        return self._era.newest

    @property
    def gate(self) -> Gate:
        """What a sync passes before it is decoded, until its answer is encoded."""
        return self._documents.gate

    async def sync(self, account: str, request: SyncRequest) -> SyncAnswer:
        """Pushes, then pulls. Raises SynclineError for the request as a whole.

        Nothing is written unless the cursor is good: a client that has to resync does so
        before it pushes, and finds nothing half done.
        """
        self._check(request)
        cursor = await self._cursor(request.cursor)
        pushed = await self._push(account, request, cursor)
        limit = min(request.limit or self._limits.changes, self._limits.changes)
        answer = await self._pull(account, cursor, limit, pushed)
        if request.events:
            answer.events = pushed.events
        if request.device is not None:
            seen = 0 if cursor is None else cursor.seq
            self._note_device(account, request.device, seen, request.pending)
        return answer

    def _check(self, request: SyncRequest) -> None:
        limit = self._limits.mutations
        if len(request.mutations) > limit:
            raise SynclineError(
                Code.INVALID_REQUEST, f"One sync takes {limit} mutations: send the rest after it."
            )

    async def _cursor(self, text: str | None) -> Cursor | None:
        if text is None:
            return None
        cursor = decode_cursor(text)
        if cursor.era != self._era.newest:
            # Another process may have begun one since this one last looked.
            self._era.newest = await self._database.read(store.newest_era)
            if cursor.era != self._era.newest:
                raise cursor_expired()
        return cursor

    async def _push(self, account: str, request: SyncRequest, cursor: Cursor | None) -> "_Pushed":
        """What cannot be read is rejected by itself."""
        read = await self._read(request)
        events = await self._ledger.read(request.events, request.device, request.sent_at)
        mutations = [one for one in read if isinstance(one, Mutation)]
        decisions: Sequence[Decision] = ()
        recorded: Sequence[EventDecision] = ()
        good = [one for one in events if isinstance(one, Event)]
        alone = None
        if mutations or good:
            submission = Submission(account, mutations, request.device, events=good)
            if cursor is not None:
                submission.after = cursor.seq
                submission.of_this_era = lambda: cursor.era == self._era.newest
            if request.previous is not UNSET and request.device is not None:
                submission.checks_fork = submission.numbered = True
                submission.previous = (
                    None if isinstance(request.previous, UnsetType) else request.previous
                )
            decisions = await self._documents.push(submission)
            recorded = submission.recorded
            if submission.seqs and submission.era and not good:  # what events change, none tells
                alone = _Alone(submission.era, *submission.seqs)
        decided = iter(zip(mutations, decisions, strict=True))
        results = []
        for one in read:
            if isinstance(one, Unread):
                self._documents.rejected(account, one.key, one.problem)
                results.append(result_of_unread(one))
            else:
                results.append(result_of(*next(decided)))
        return _Pushed(results, self._ledger.results(account, events, recorded), alone)

    async def _read(self, request: SyncRequest) -> list[Mutation | Unread]:
        now_ms = self._documents.clock()
        read: list[Mutation | Unread] = []
        size = 0
        for index, raw in enumerate(request.mutations):
            text = bytes(raw)
            size += len(text)
            if size > READ_AT_ONCE:
                await asyncio.sleep(0)
                size = 0
            read.append(read_mutation(text, index, request, self._documents.intake, now_ms))
        return read

    async def _pull(
        self, account: str, cursor: Cursor | None, limit: int, pushed: "_Pushed"
    ) -> SyncAnswer:
        after = 0 if cursor is None else cursor.seq
        room, results = self._limits.answer_bytes, pushed.results
        used, left_out = fit(results, room)
        alone = pushed.alone
        if alone is not None and alone.begins_at(cursor) and not left_out:
            # Since the cursor nothing changed but by this push: the results tell it all.
            return self._answer(Cursor(alone.era, alone.after), results, [], more=False)
        start = after
        if left_out:
            # The device may have pulled such a document already, and then changed its copy.
            first = await self._database.read(
                lambda connection: store.first_seq(connection, account, left_out)
            )
            start = min(after, first - 1)
        page = await self._page(account, cursor, start, limit, max(1, room - used))
        told = {
            (result.key, result.version)
            for result in results
            if result.problem is UNSET and result.key not in left_out
        }
        changes = [_change(row) for row in page.rows if (row["key"], row["version"]) not in told]
        return self._answer(_reached(page), results, changes, more=page.more)

    def _answer(
        self, reached: Cursor, results: list[MutationResult], changes: list[Change], *, more: bool
    ) -> SyncAnswer:
        return SyncAnswer(
            cursor=reached.encode(),
            results=results,
            changes=changes,
            more=more,
            server_time=self._documents.clock(),
        )

    async def changes(
        self, account: str, cursor: Cursor | None, limit: int, max_bytes: int
    ) -> "Changed":
        """What changed after a cursor, up to so much; raises CURSOR_EXPIRED."""
        start = 0 if cursor is None else cursor.seq
        page = await self._page(account, cursor, start, limit, max_bytes)
        return Changed(_reached(page), [_change(row) for row in page.rows], page.more)

    async def _page(
        self, account: str, cursor: Cursor | None, start: int, limit: int, max_bytes: int
    ) -> Page:
        """A page from `start` on, which may lie before the cursor; raises CURSOR_EXPIRED."""
        after = 0 if cursor is None else cursor.seq
        pull = Pull(account, start, limit, max_bytes)
        page = await self._puller.read(account, pull, 1 if after else WHOLE_ACCOUNT)
        self._era.newest = page.era
        if after > page.head or (cursor is not None and cursor.era != page.era):
            raise cursor_expired()
        return page


@dataclass(frozen=True, slots=True)
class _Pushed:
    """What became of a push: results in the order of the mutations, and of the events."""

    results: list[MutationResult]
    events: list[EventResult]
    alone: "_Alone | None"
    """What the results tell all of; None where something else may have changed."""


class _Alone(NamedTuple):
    """From one sequence of the account to another, in one era, nothing changed but by a push."""

    era: str
    before: int
    after: int

    def begins_at(self, cursor: Cursor | None) -> bool:
        """Whether a device with this cursor had seen all that was before."""
        return (cursor or Cursor(self.era, 0)) == Cursor(self.era, self.before)


@dataclass(frozen=True, slots=True)
class Changed:
    """Changes, and where a device stands that has them; `more` wait behind them."""

    cursor: Cursor
    changes: list[Change]
    more: bool


def _reached(page: Page) -> Cursor:
    return Cursor(page.era, page.rows[-1]["seq"] if page.more else page.head)


def _change(row: Any) -> Change:
    value = row["value"]
    return Change(
        key=row["key"],
        version=row["version"],
        value=Raw(b"null" if value is None else value.encode()),
        deleted=value is None,
        updated_at=row["updated_at_ms"],
        device=row["device"],
    )
