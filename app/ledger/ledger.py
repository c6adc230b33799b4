"""What can be done with events: the verbs that routes and other features call."""

import asyncio
from collections.abc import Sequence
from typing import Any

from app.clock import Clock
from app.database.engine import Database
from app.documents.documents import EVENTS, Documents
from app.documents.gate import Gate
from app.documents.submission import Submission
from app.errors import Code, SynclineError
from app.ledger import audit, store
from app.ledger.intake import EventIntake, Sender, UnreadEvent
from app.ledger.model import Event, EventDecision
from app.ledger.results import event_results
from app.ledger.types import Audit, EventResult
from app.ledger.work import reading

READ_AT_ONCE = 256 * 1024
"""Bytes of events that are decoded before other requests have their turn."""


class Ledger:
    """The events of all accounts; every call names its own."""

    def __init__(
        self,
        database: Database,
        documents: Documents,
        intake: EventIntake,
        clock: Clock,
        max_events: int,
    ) -> None:
        self._database = database
        self._documents = documents
        self._max_events = max_events
        self._audited: set[str] = set()
        """Accounts whose audit is under way, or waits for its turn."""
        self._turn = asyncio.Lock()
        self.intake = intake
        self.clock = clock

    @property
    def gate(self) -> Gate:
        """What a request with events passes before it is decoded."""
        return self._documents.gate

    async def read(
        self, texts: Sequence[Any], device: str | None, sent_at: float | None
    ) -> list[Event | UnreadEvent]:
        """Events from their texts; raises INVALID_REQUEST for too many, or for one without id."""
        if len(texts) > self._max_events:
            raise SynclineError(
                Code.INVALID_REQUEST,
                f"One request takes {self._max_events} events: send the rest after it.",
                limit=self._max_events,
            )
        sender = Sender(device, None if sent_at is None else int(sent_at), self.clock())
        events, size = [], 0
        for index, raw in enumerate(texts):
            text = bytes(raw)
            size += len(text)
            if size > READ_AT_ONCE:
                await asyncio.sleep(0)
                size = 0
            events.append(self.intake.read(text, index, sender))
        return events

    async def record(
        self, account: str, events: Sequence[Event | UnreadEvent]
    ) -> list[EventResult]:
        """Records events, each once; a rejected one is a result with a problem."""
        good = [one for one in events if isinstance(one, Event)]
        submission = Submission(account, [], events=good)
        if good:
            await self._documents.push(submission)
        return self.results(account, events, submission.recorded)

    def results(
        self,
        account: str,
        events: Sequence[Event | UnreadEvent],
        recorded: Sequence[EventDecision],
    ) -> list[EventResult]:
        """Results in the order of the events; those that could not be read are refused here."""
        for one in events:
            if isinstance(one, UnreadEvent):
                self._documents.rejected(account, EVENTS + one.type, one.problem)
        return event_results(events, recorded)

    async def foresee(self, account: str, events: Sequence[Event]) -> list[EventDecision]:
        """What would become of events if they were recorded now; nothing is written."""
        asked = reading((account, event) for event in events)
        work = await self._database.read(
            lambda connection: store.read(connection, asked, self.clock())
        )
        decisions, _ = work.decide(account, events)
        return decisions

    async def audit(self, account: str) -> Audit:
        """Whether the totals of the account are what its events add up to; raises OVERLOADED.

        It reads every event there is, so it has one connection at most, and nobody waits for it
        but who asks the same.
        """
        if account in self._audited:
            detail = "An audit of this account is under way: ask again once it is answered."
            raise SynclineError(Code.OVERLOADED, detail)
        self._audited.add(account)
        try:
            async with self._turn:
                return await self._database.read(
                    lambda connection: audit.audit_account(connection, account)
                )
        finally:
            self._audited.discard(account)
