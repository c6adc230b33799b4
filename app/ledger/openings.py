"""What an earlier system counted: openings, and the facts that it still has.

An *opening* says that an account had at least so much of a total. Imported facts (`xp` events,
study sessions) add up by themselves, and are part of what the opening counted. So that nothing
counts twice, in whatever order they are imported, three totals stand behind each one:

    imported:T   S, the sum of the imported facts
    claimed:T    X, the greatest opening; 0: there is none
    opening:T    O, what openings add to the facts: max(X − S, 0), or 0 without one

so that S + O = max(X, S). Every event adds differences to them, and to T itself what S + O grew
by, so that totals stay sums of effects. What users earn in Syncline adds on top.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from app.ledger.boards import XP
from app.ledger.event_type import Effects, EventType, Known, Occasion, Reads
from app.ledger.profile import counted, joined, sampled
from app.ledger.shipped import (
    SESSIONS,
    SPEED_LIMIT_S,
    StudySession,
    Xp,
    refuse_more_correct,
    took_place,
)
from merge_rules.canonical import MAX_INTEGER
from merge_rules.rule import Rule, State
from merge_rules.stamp import ZERO

POINTS = "points"
NAMED = {"sessions": SESSIONS}
"""Totals that an opening knows by another name, since clients do not see theirs."""
IN_PROFILE = {POINTS: "total_points", SESSIONS: "total_sessions"}
"""The fields of the document `profile` that say the same as a total."""

Total = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._~-]{1,128}\Z")]
Amount = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]


class OldStreak(msgspec.Struct, forbid_unknown_fields=True):
    """So many days in a row, up to the last one, YYYY-MM-DD."""

    days: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    last: Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]


class Opening(msgspec.Struct, forbid_unknown_fields=True):
    """What an account is known to have had."""

    totals: dict[Total, Amount] = {}
    blink_speed: Annotated[float, Meta(gt=0, le=SPEED_LIMIT_S)] | None = None
    evolution_level: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | None = None
    streak: OldStreak | None = None


def _behind(total: str) -> tuple[str, str, str]:
    return f"imported:{total}", f"claimed:{total}", f"opening:{total}"


def _reads(totals: Iterable[str]) -> Reads:
    return Reads([name for total in totals for name in (total, *_behind(total))])


def reckoned(known: Known, total: str, *, fact: int = 0, claim: int = 0) -> dict[str, int]:
    """What a fact, or a claim of at least so much, adds to a total and to those behind it."""
    facts, claimed, opened = _behind(total)
    facts_now = known.total(facts) + fact
    claim_now = max(known.total(claimed), claim)
    opened_now = max(claim_now - facts_now, 0) if claim_now else 0
    changes = {
        facts: fact,
        claimed: claim_now - known.total(claimed),
        opened: opened_now - known.total(opened),
    }
    changes[total] = changes[facts] + changes[opened]
    return {name: amount for name, amount in changes.items() if amount}


# --- openings ---------------------------------------------------------------------------------


def _claims(payload: Opening) -> dict[str, int]:
    return {NAMED.get(name, name): amount for name, amount in payload.totals.items()}


def _project_opening(payload: Opening, occasion: Occasion, known: Known) -> Effects:
    totals: dict[str, int] = {}
    for total, claim in sorted(_claims(payload).items()):
        totals |= reckoned(known, total, claim=claim)
    return Effects(
        totals,
        lambda rule, state: _opened(payload, occasion.id, totals, rule, state),
        weekly=False,
    )


def _opened(
    payload: Opening, id: UUID, totals: Mapping[str, int], rule: Rule, state: State
) -> State:
    """What an opening adds to the document `profile`; a speed stands before all samples, since
    it is what earlier sessions averaged to."""
    deltas = [_in_profile(rule, state, totals)]
    if payload.blink_speed is not None:
        deltas.append(sampled("blink_speed", 0, id, payload.blink_speed))
    for field, value in (("evolution_level", payload.evolution_level), ("streak", payload.streak)):
        child = rule.child(field)
        assert child is not None
        if value is not None:
            plain = msgspec.to_builtins(value)
            if isinstance(value, OldStreak):
                plain = {"current": value.days, "last": value.last}
            deltas.append({field: child.adopt(plain, ZERO)})
    return joined(rule, *deltas)


def _in_profile(rule: Rule, state: State, totals: Mapping[str, int]) -> State:
    """What the profile's counters grow by, where they say the same as a total."""
    return joined(
        rule,
        *(
            counted(rule, state, field, totals[total])
            for total, field in IN_PROFILE.items()
            if totals.get(total)
        ),
    )


OPENING = EventType(
    "opening",
    Opening,
    _project_opening,
    reads=lambda payload: _reads(_claims(payload)),
    internal=True,
)


# --- facts ------------------------------------------------------------------------------------


def _project_xp(payload: Xp, occasion: Occasion, known: Known) -> Effects:
    """It counts for the board of all time alone: whether an opening came first must not tell."""
    return Effects({XP: 0, **reckoned(known, XP, fact=payload.amount)}, weekly=False)


def _project_session(payload: StudySession, occasion: Occasion, known: Known) -> Effects:
    refuse_more_correct(payload.correct_answers, payload.total_questions)
    totals = reckoned(known, POINTS, fact=payload.points) | reckoned(known, SESSIONS, fact=1)

    def in_profile(rule: Rule, state: State) -> State:
        place = took_place(payload, occasion, rule)
        return joined(rule, place, _in_profile(rule, state, totals))

    return Effects({POINTS: 0, **totals}, in_profile)


IMPORTED_FACTS = {
    one.name: one
    for one in (
        EventType(XP, Xp, _project_xp, reads=lambda _: _reads([XP]), internal=True),
        EventType(
            "session",
            StudySession,
            _project_session,
            reads=lambda _: _reads([POINTS, SESSIONS]),
            internal=True,
        ),
    )
}
"""Facts of an earlier system, by the name of their type, which is that of the ones that clients
record: they are the same facts, counted beside openings."""
