"""What one batch has read of the ledger and what it will write: the memory in which it decides.

A later event of the batch sees what an earlier one added, as if each had been committed alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from app.ledger.boards import is_board, weekly_xp
from app.ledger.decide import EVENTS, decide_event
from app.ledger.event_type import Level, ProfileStep, UnknownLevel
from app.ledger.model import Event, EventDecision, EventRow, Recorded
from merge_rules.canonical import encode

ALWAYS_SHOWN = ("xp", "points", EVENTS)
"""Totals that the document `totals` shows even at 0."""

Account = str
Total = str


@dataclass(slots=True)
class LedgerWork:
    """The events, totals and levels that a batch concerns."""

    now_ms: int
    seen: dict[tuple[Account, UUID], Recorded] = field(default_factory=dict)
    totals: dict[tuple[Account, Total], int] = field(default_factory=dict)
    """Of what was read; a total that is missing is 0."""
    levels: Mapping[str, Level] = field(default_factory=dict)
    listed: dict[Account, bool] = field(default_factory=dict)
    """Whether the account wants to be seen on leaderboards, where its `player` is in the batch or
    it has events."""

    new_events: list[tuple[Account, *tuple[Any, ...]]] = field(default_factory=list)
    changed: set[tuple[Account, Total]] = field(default_factory=set)
    relisted: set[Account] = field(default_factory=set)
    """Accounts whose `player` was written."""

    def decide(
        self, account: Account, events: Iterable[Event]
    ) -> tuple[list[EventDecision], list[ProfileStep]]:
        """A decision for each event, and what the accepted ones add to the document `profile`."""
        decisions, steps = [], []
        for event in events:
            known = KnownTotals(self, account, event)
            decision, effects = decide_event(event, self.seen.get((account, event.id)), known)
            decisions.append(decision)
            if effects is not None:
                self._record(account, event, decision)
                if effects.profile is not None:
                    steps.append(effects.profile)
        return decisions, steps

    def _record(self, account: Account, event: Event, decision: EventDecision) -> None:
        """Takes in an accepted event, so that the next one sees it."""
        self.seen[account, event.id] = Recorded(event.digest, decision.effects, event.at_ms)
        for name, amount in {**decision.effects, EVENTS: 1}.items():
            self.totals[account, name] = self.total(account, name) + amount
            self.changed.add((account, name))
        row = EventRow(
            id=event.id,
            type=event.type.name,
            payload=event.text.decode(),
            digest=event.digest,
            effects=encode(decision.effects).decode(),
            device=event.device,
            occurred_at_ms=event.at_ms,
            claimed_at_ms=event.claimed_at_ms,
            received_at_ms=self.now_ms,
        )
        self.new_events.append((account, *row))

    def total(self, account: Account, name: Total) -> int:
        return self.totals.get((account, name), 0)

    def shown(self, account: Account) -> dict[str, int]:
        """The value of the document `totals`."""
        shown = dict.fromkeys(ALWAYS_SHOWN, 0)
        for (owner, name), amount in self.totals.items():
            if owner == account and ":" not in name:
                shown[name] = amount
        return shown

    def relist(self, account: Account, player: bytes | None) -> None:
        """Takes in that the document `player` was written, or deleted."""
        self.listed[account] = is_listed(player)
        self.relisted.add(account)

    def standings(self) -> list[tuple[Account, str, int, bool]]:
        """The scores that change: account, board, score, whether it is listed."""
        return [
            (account, name, self.total(account, name), self.listed.get(account, True))
            for account, name in sorted(self.changed)
            if is_board(name)
        ]


class Reading(msgspec.Struct, frozen=True):
    """What has to be read for the events of a batch."""

    ids: frozenset[tuple[Account, UUID]]
    accounts: list[Account]
    totals: list[Total]
    """Those with a colon; all others of the accounts are read anyway."""
    levels: list[str]


def reading(asked: Iterable[tuple[Account, Event]]) -> Reading:
    """What the decisions on these events ask for."""
    ids: set[tuple[Account, UUID]] = set()
    totals: set[Total] = set()
    levels: set[str] = set()
    for account, event in asked:
        ids.add((account, event.id))
        totals.update(name for name in event.reads.totals if ":" in name)
        totals.add(weekly_xp(event.at_ms))
        levels.update(event.reads.levels)
    return Reading(
        ids=frozenset(ids),
        accounts=sorted({account for account, _ in ids}),
        totals=sorted(totals),
        levels=sorted(levels),
    )


@dataclass(slots=True, frozen=True)
class KnownTotals:
    """What one event may ask of its account."""

    work: LedgerWork
    account: Account
    event: Event

    def total(self, name: str) -> int:
        if ":" in name and name not in self.event.reads.totals:
            # It was not read, so it would seem to be 0.
            raise LookupError(f"the type does not say that it reads the total {name!r}")
        return self.work.total(self.account, name)

    def level(self, level: str) -> Level:
        if level not in self.event.reads.levels:
            raise LookupError(f"the type does not say that it reads the level {level!r}")
        found = self.work.levels.get(level)
        if found is None:
            raise UnknownLevel(level)
        return found


def is_listed(player: bytes | None) -> bool:
    """Whether the document `player`, as JSON, lets its account be seen on leaderboards."""
    if player is None:
        return True
    value = msgspec.json.decode(player)
    return not (isinstance(value, dict) and value.get("listed") is False)
