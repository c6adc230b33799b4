"""Events that happen, and what must have become of them: one book an account."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tests.simulation.server import Json, canonical

MOST_XP = 10_000
SPEEDS = 32
"""As many study sessions have a say in the average speed."""


class Happening(NamedTuple):
    """Something that an event is about."""

    type: str
    payload: Json


def studied(points: int, correct: int, speed: float | None = None) -> Happening:
    """A study session of ten questions."""
    payload = {"thread": "t", "stitch": "s", "total_questions": 10, "correct_answers": correct}
    timed = {} if speed is None else {"blink_speed": speed}
    return Happening("session", {**payload, "points": points, **timed})


GOOD = (
    *(Happening("xp", {"amount": amount}) for amount in (10, 1, -3)),
    studied(30, 8, 2.0),
    studied(5, 3, 3.5),
    studied(-2, 0),
)
BAD = (Happening("xp", {"amount": 2 * MOST_XP}), studied(7, 11))
"""What the server has to refuse, whatever it knows."""


@dataclass
class EventBook:
    """Every good event that happened in one account, and what was said of it."""

    events: dict[str, Json] = field(default_factory=dict)
    told: dict[str, Json] = field(default_factory=dict)
    """By id, the last answer since the server was restored last."""
    senders: dict[str, set[str]] = field(default_factory=dict)
    """By id, the devices that got an answer."""
    undone: set[str] = field(default_factory=set)
    """Acknowledged once, and taken back by a restored backup."""
    lost: set[str] = field(default_factory=set)
    """Of these, those that no device holds any more; a late request may still bring them."""

    def heard(self, body: Json, result: Json, device: str) -> list[str]:
        """An answer passed by, wherever it went; what is worth counting about it."""
        identifier, outcome = body["id"], result["outcome"]
        assert result["id"] == identifier, "results come in the order of the events"
        good = Happening(body["type"], body["payload"]) in GOOD
        assert (outcome != "rejected") == good, f"{body}: {result}"
        if not good:
            return [f"event {outcome}", result["problem"]["code"]]
        before, seen = self.told.get(identifier), [f"event {outcome}"]
        if before is not None:
            assert outcome == "duplicate", f"accepted a second time: {body}"
            for told in ("occurred_at", "effects"):
                assert result[told] == before[told], f"{result} was {before}"
        elif outcome == "accepted":
            latest = max((one["occurred_at"] for one in self.told.values()), default=0)
            seen += ["event out of order"] * (result["occurred_at"] < latest)
            seen += ["event again after a restore"] * (identifier in self.undone)
            seen += ["event clamped"] * result.get("clamped", False)
            seen += ["study session"] * (body["type"] == "session")
        senders = self.senders.setdefault(identifier, set())
        senders.add(device)
        seen += ["event of two devices"] * (len(senders) > 1)
        self.told[identifier] = result
        return seen

    def holds(self, body: Json) -> bool:
        """Whether it is a good event, and not another one under the same id."""
        return self.events.get(body["id"]) == body

    def restored(self, recorded: frozenset[str], held: list[Json]) -> int:
        """The server went back in time; how many acknowledged events nobody holds any more."""
        waiting = {body["id"] for body in held if self.holds(body)}
        acknowledged = self.told.keys() - recorded
        self.undone |= acknowledged
        self.lost |= self.events.keys() - recorded - waiting
        self.told.clear()
        return len(acknowledged - waiting)

    def check(self, documents: dict[str, Any], recorded: frozenset[str]) -> None:
        """Raises AssertionError unless the documents are what the events amount to."""
        missing = self.events.keys() - self.lost - recorded
        assert not missing, f"these events never reached the server: {sorted(missing)}"
        assert recorded <= self.events.keys(), "an event is recorded that never happened"
        bodies = {identifier: self.events[identifier] for identifier in recorded}
        payloads: dict[str, list[Json]] = {"xp": [], "session": []}
        for body in bodies.values():
            payloads[body["type"]].append(body["payload"])
        expected = {
            "xp": sum(payload["amount"] for payload in payloads["xp"]),
            "points": sum(payload["points"] for payload in payloads["session"]),
            "events": len(bodies),
        }
        totals = documents.get("totals")
        assert totals == (expected if bodies else None), f"{totals}, and all events: {bodies}"
        sessions = [
            (self.told[identifier]["occurred_at"], identifier, body["payload"])
            for identifier, body in bodies.items()
            if body["type"] == "session"
        ]
        _check_profile(documents.get("profile"), sorted(sessions, key=lambda one: one[:2]))


def _check_profile(profile: Any, sessions: list[tuple[int, str, Json]]) -> None:
    """The profile is what a person would reckon from the sessions, in the order of time."""
    if not sessions:
        assert profile is None, f"without a session: {profile}"
        return
    assert profile["total_points"] == sum(payload["points"] for _, _, payload in sessions)
    assert profile["total_sessions"] == len(sessions)
    speeds = [payload["blink_speed"] for _, _, payload in sessions if "blink_speed" in payload]
    average = None
    for speed in speeds[-SPEEDS:]:
        average = speed if average is None else 0.7 * average + 0.3 * speed
    held = profile.get("blink_speed")
    assert (held is None) == (average is None), f"{held}, and {speeds}"
    assert average is None or math.isclose(held, average), f"{held}, and {speeds}"
    assert profile["streak"] == _streak({_day(at_ms) for at_ms, _, _ in sessions})
    latest = [one for one in sessions if one[0] == sessions[-1][0]]
    shown = {
        canonical([one, at_ms, payload["points"], payload.get("blink_speed")])
        for at_ms, one, payload in latest
    }
    last = profile["last_session"]
    told = [last["id"], last["completed_at"], last["points"], last["blink_speed"]]
    assert canonical(told) in shown, f"{last}, and the latest are {latest}"
    assert math.isclose(last["accuracy"], 10 * _correct(latest, last["id"]))


def _correct(sessions: list[Any], identifier: str) -> int:
    correct: int = next(one[2]["correct_answers"] for one in sessions if one[1] == identifier)
    return correct


def _day(at_ms: int) -> Any:
    return datetime.fromtimestamp(at_ms / 1000, UTC).date()


def _streak(days: set[Any]) -> Json:
    """Days in a row: those up to the last one, and the most there ever were."""
    rows = {day: 0 for day in days}
    for day in sorted(days):
        rows[day] = rows.get(day - timedelta(1), 0) + 1
    last = max(days)
    return {
        "current": rows[last],
        "longest": max(rows.values()),
        "total": len(days),
        "last": last.isoformat(),
    }
