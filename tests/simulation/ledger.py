"""What the model server makes of events: recorded once, counted, and shown in a profile.

Written from the design and not from the service. It shares `merge_rules` and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from merge_rules import best, counter, days, last_write_wins, maximum, record, samples
from merge_rules.rule import Rule, State
from merge_rules.stamp import SKEW_TOLERANCE_MS, Stamp
from tests.simulation.server import Json, canonical

XP_CAP = 10_000
OLDEST_MS = 366 * 86_400_000
"""How far back an event may lie; what is older is dated so."""
WRITER = "server"
WRITTEN: Stamp = (0, 0, WRITER)

PROFILE = record(
    {
        "total_points": counter,
        "total_sessions": counter,
        "blink_speed": samples(32, 0.3),
        "evolution_level": maximum,
        "streak": days,
        "last_session": best("completed_at"),
    }
)
OWN_RULES: dict[str, Rule] = {"totals": last_write_wins, "profile": PROFILE}


class Recorded(NamedTuple):
    """An event that counts: what it says, when it happened by the server's clock, what it adds."""

    content: bytes
    at_ms: int
    effects: dict[str, int]


class Session(NamedTuple):
    """A study session that is to go into the profile."""

    id: str
    at_ms: int
    payload: Json


@dataclass(slots=True)
class Ledger:
    """The events of one account, each once. Bugs to plant override the methods marked with *."""

    recorded: dict[str, Recorded] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=lambda: {"xp": 0, "points": 0, "events": 0})

    def fork(self) -> "Ledger":
        return type(self)(dict(self.recorded), dict(self.totals))

    def record(
        self, events: Iterable[Json], sent_at_ms: int, now_ms: int
    ) -> tuple[list[Json], list[Session]]:
        """A result for each event, and the study sessions among those that are new."""
        results, sessions = [], []
        for event in events:
            result = self._judge(event, sent_at_ms, now_ms)
            results.append(result)
            if result["outcome"] == "accepted" and event["type"] == "session":
                sessions.append(Session(event["id"], result["occurred_at"], event["payload"]))
        return results, sessions

    def _judge(self, event: Json, sent_at_ms: int, now_ms: int) -> Json:
        at_ms, clamped = _moment(event["occurred_at"], sent_at_ms, now_ms)
        content = canonical([event["type"], event["payload"], event["occurred_at"]])
        found = self._known(event["id"])
        if found is not None and found.content != content:
            return _rejected(event, "id-reused")
        if found is None:
            code = _refusal(event)
            if code is not None:
                self._refuse(event)
                return _rejected(event, code)
            self._add(effects_of(event))
            self.totals["events"] += 1
        outcome = "accepted" if found is None else "duplicate"
        kept = found or Recorded(content, at_ms, effects_of(event))
        self.recorded[event["id"]] = kept
        return {
            "id": event["id"],
            "outcome": outcome,
            "occurred_at": kept.at_ms,
            "clamped": clamped,
            "effects": kept.effects,
        }

    def _add(self, effects: dict[str, int]) -> None:
        for name, amount in effects.items():
            self.totals[name] += amount

    def _known(self, identifier: str) -> Recorded | None:
        """* The event that was accepted with this id."""
        return self.recorded.get(identifier)

    def _refuse(self, event: Json) -> None:
        """* A rejected event counts for nothing."""

    def audit(self) -> list[str]:
        """Totals that are not what the recorded events add up to."""
        sums = {"xp": 0, "points": 0, "events": len(self.recorded)}
        for one in self.recorded.values():
            for name, amount in one.effects.items():
                sums[name] += amount
        return [
            f"the total {name!r} is {self.totals[name]}, and its events add up to {added}"
            for name, added in sums.items()
            if self.totals[name] != added
        ]


def with_totals(state: State, totals: dict[str, int]) -> State:
    """The state of the document `totals` that shows these."""
    return last_write_wins.advance(state, totals, WRITTEN)


def with_session(state: State, session: Session) -> State:
    """The state of the document `profile` with one study session more, wherever it belongs."""
    payload, at_ms = session.payload, session.at_ms
    speed, asked = payload.get("blink_speed"), payload["total_questions"]
    last = {
        "id": session.id,
        "thread": payload["thread"],
        "stitch": payload["stitch"],
        "points": payload["points"],
        "accuracy": payload["correct_answers"] / asked * 100 if asked else 0.0,
        "blink_speed": speed,
        "completed_at": at_ms,
    }
    day = datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
    add: State = {
        "total_points": _counted(state, "total_points", payload["points"]),
        "total_sessions": _counted(state, "total_sessions", 1),
        "streak": days.delta(days.bottom, day, WRITTEN),
        "last_session": PROFILE.fields["last_session"].delta(None, last, WRITTEN),
    }
    if speed is not None:
        # Those of one millisecond are told apart by the ids of their events.
        add["blink_speed"] = [((at_ms, int.from_bytes(UUID(session.id).bytes[-4:]), WRITER), speed)]
    return PROFILE.apply(state, add)


def _counted(state: Any, name: str, amount: int) -> State:
    held = state.get(name, counter.bottom)
    return counter.delta(held, counter.value(held) + amount, WRITTEN)


def effects_of(event: Json) -> dict[str, int]:
    """What an event says that it adds to which total."""
    if event["type"] == "xp":
        return {"xp": event["payload"]["amount"]}
    return {"points": event["payload"]["points"]}


def _refusal(event: Json) -> str | None:
    """The code of what its type says against an event."""
    payload = event["payload"]
    if event["type"] == "xp":
        return "amount-over-cap" if abs(payload["amount"]) > XP_CAP else None
    more = payload["correct_answers"] > payload["total_questions"]
    return "invalid-event" if more else None


def _rejected(event: Json, code: str) -> Json:
    return {"id": event["id"], "outcome": "rejected", "problem": {"code": code}}


def _moment(claimed_ms: int, sent_at_ms: int, now_ms: int) -> tuple[int, bool]:
    """When it happened by the server's clock, and whether it cannot have happened when claimed.

    A clock that is off by more than two minutes when it sends is set right. Then nothing lies in
    the future, nor further back than an event may.
    """
    off_ms = now_ms - sent_at_ms
    at_ms = claimed_ms + (off_ms if abs(off_ms) > SKEW_TOLERANCE_MS else 0)
    oldest_ms = now_ms - OLDEST_MS
    clamped = not oldest_ms <= at_ms <= now_ms + SKEW_TOLERANCE_MS
    return max(oldest_ms, min(at_ms, now_ms)), clamped
