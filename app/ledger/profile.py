"""The document `profile`: what study sessions add up to, by a merge rule like any other.

It is written by the service alone. Averages and streaks are kept in a form that merges, so they
come out the same in whatever order the sessions arrive.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.ledger.event_type import ProfileStep
from merge_rules.counter import counter
from merge_rules.derived import days, samples
from merge_rules.record import record
from merge_rules.register import last_write_wins
from merge_rules.rule import Rule, State
from merge_rules.scalar import best, maximum
from merge_rules.stamp import Stamp

PROFILE = "profile"
TOTALS = "totals"
PLAYER = "player"
SERVER_OWNED = frozenset({PROFILE, TOTALS})
"""Documents that clients only read."""

EVENT_DOCUMENTS = (PROFILE, TOTALS, PLAYER)
"""Documents that events change or look at."""

SPEED_ALPHA = 0.3
"""The weight of a new speed: average ← 0.7 · average + 0.3 · speed."""
SPEED_SAMPLES = 32
"""What lies further back weighs less than 0.7³², a hundred-thousandth."""

DEVICE = "server"
"""The writer of the counters."""

PROFILE_RULE = record(
    {
        "total_points": counter,
        "total_sessions": counter,
        "blink_speed": samples(SPEED_SAMPLES, SPEED_ALPHA),
        "evolution_level": maximum,
        "streak": days,
        "last_session": best("completed_at"),
    }
)
"""`{"total_points": 340, "total_sessions": 12, "blink_speed": 2.31, "streak": {"current",
"longest", "total", "last"}, "last_session": {"id", "thread", "stitch", "completed_at", …}}`.
`evolution_level` comes from imports."""


SERVER_RULES: dict[str, Rule] = {PROFILE: PROFILE_RULE, TOTALS: last_write_wins}


def totals_of(shown: dict[str, int]) -> ProfileStep:
    """The whole document `totals`, as its events add up by now."""
    return lambda rule, state: rule.advance(state, shown, (0, 0, DEVICE))


def profile_with(steps: Sequence[ProfileStep]) -> ProfileStep:
    """The document `profile` with what events add to it, one after the other."""

    def project(rule: Rule, state: State) -> State:
        for step in steps:
            state = rule.apply(state, step(rule, state))
        return state

    return project


def counted(rule: Rule, state: State, field: str, amount: int) -> State:
    """The delta that adds to a counter."""
    child = rule.child(field)
    assert child is not None
    held = state.get(field, child.bottom)
    return {field: child.delta(held, child.value(held) + amount, (0, 0, DEVICE))}


def sampled(field: str, at_ms: int, id: UUID, sample: float) -> State:
    """The delta of one sample, dated by its event: a late one takes its place among the others.

    Two of the same millisecond are told apart by the ids of their events.
    """
    stamp: Stamp = (at_ms, int.from_bytes(id.bytes[-4:]), DEVICE)
    return {field: [(stamp, sample)]}


def on_day(at_ms: int) -> str:
    """The day, YYYY-MM-DD, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()


def joined(rule: Rule, *deltas: State) -> State:
    """Several deltas as one."""
    together: Any = rule.bottom
    for delta in deltas:
        together = rule.join(together, delta)
    return together
