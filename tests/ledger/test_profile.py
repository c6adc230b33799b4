"""Study sessions: the document `profile`, whatever order they arrive in."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ledger.event_type import Occasion
from app.ledger.profile import PROFILE_RULE, SPEED_ALPHA, SPEED_SAMPLES, profile_with
from app.ledger.shipped import StudySession, accuracy, studied
from merge_rules.canonical import encode
from merge_rules.rule import State
from merge_rules.state import decode as decode_state
from merge_rules.state import encode as encode_state
from tests.conftest import Service
from tests.ledger.test_events import DAY_MS, now_ms
from tests.ledger.wire import audit, outcomes, record, session, value
from tests.sync.database import fetch

START_MS = 1_790_000_000_000


def test_a_session_feeds_the_profile(client: httpx.Client) -> None:
    """Points, count, average, streak and the last session, as the source kept them."""
    at = now_ms() - DAY_MS
    results = record(
        client,
        session(30, 2.0, occurred_at=at),
        session(34, 3.0, occurred_at=at + 1000),
        session(6, None, occurred_at=at + 2000),
    )
    assert outcomes(results) == ["accepted"] * 3
    assert [result["effects"] for result in results] == [{"points": n} for n in (30, 34, 6)]
    profile = value(client, "profile")
    assert profile["total_points"] == 70
    assert profile["total_sessions"] == 3
    assert profile["blink_speed"] == pytest.approx(0.7 * 2.0 + 0.3 * 3.0)
    day = datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
    assert profile["streak"] == {"current": 1, "longest": 1, "total": 1, "last": day}
    assert profile["last_session"] == {
        "id": results[2]["id"],
        "thread": "t1",
        "stitch": "s1",
        "points": 6,
        "accuracy": 85.0,
        "blink_speed": None,
        "completed_at": at + 2000,
    }
    assert value(client, "totals") == {"xp": 0, "points": 70, "events": 3}
    audit(client)


def test_a_streak_over_days_and_a_late_session(client: httpx.Client) -> None:
    """A device that was offline fills the gap, and is not taken for the last session."""
    now = now_ms()
    days = [now - n * DAY_MS for n in (4, 3, 1)]
    record(client, *(session(1, 1.0, occurred_at=at) for at in days))
    assert value(client, "profile")["streak"]["current"] == 1
    record(client, session(1, 1.0, occurred_at=now - 2 * DAY_MS))
    profile = value(client, "profile")
    assert profile["streak"]["current"] == profile["streak"]["longest"] == 4
    assert profile["last_session"]["completed_at"] == days[-1]


def test_a_session_with_nothing_in_it(client: httpx.Client) -> None:
    """The source takes one with a thread and a stitch alone; of none answered none was right."""
    minimal = {**session(0), "payload": {"thread": "t", "stitch": "s"}}
    assert outcomes(record(client, minimal)) == ["accepted"]
    profile = value(client, "profile")
    assert (profile["total_sessions"], profile["last_session"]["accuracy"]) == (1, 0.0)
    assert "blink_speed" not in profile


@pytest.mark.parametrize("before", ["mine", [1], {"total_points": "many"}, {"name": "Maja"}])
def test_a_document_of_earlier_times_gives_way(service: Service, before: Any) -> None:
    """A client may have written the key before it was the service's own: its account must not be
    shut out of events for that, and what it wrote stays among the revisions."""
    account = f"player-{uuid4()}"
    with service.client(account) as client:
        client.put("/v1/documents/notes", json={"value": before, "base": 0})
        for table in ("documents", "revisions"):
            change = f"update {table} set key = 'profile' where account = $1"
            fetch(service.database_url, change, account)
        touch = "update heads set tag = tag + 1 where account = $1"
        fetch(service.database_url, touch, account)
        assert outcomes(record(client, session(5, 2.0))) == ["accepted"]
        profile = client.get("/v1/documents/profile").json()
        assert (profile["version"], profile["value"]["total_points"]) == (2, 5)
        assert client.get("/v1/documents/profile/revisions/1").json()["value"] == before
        audit(client)


sessions = st.lists(
    st.tuples(
        st.integers(0, 40 * DAY_MS // 3_600_000),
        st.integers(-50, 500),
        st.none() | st.floats(0.1, 30.0),
    ),
    max_size=12,
)
Session = tuple[int, int, float | None]


def add(state: State, number: int, one: Session) -> State:
    """The profile with one session, as the pipeline writes it: stored and read back."""
    hour, points, speed = one
    occasion = Occasion(UUID(int=number + 1), START_MS + hour * 3_600_000)
    payload = StudySession("t", "s", 10, 5, points, speed)
    step = profile_with([lambda rule, held: studied(payload, occasion, rule, held)])
    stored = encode_state(PROFILE_RULE, step(PROFILE_RULE, state))
    return decode_state(PROFILE_RULE, stored)


def profile_of(numbered: list[tuple[int, Session]]) -> dict[str, Any]:
    state = PROFILE_RULE.bottom
    for number, one in numbered:
        state = add(state, number, one)
    value: dict[str, Any] = PROFILE_RULE.value(state)
    return value


@given(sessions, st.randoms(use_true_random=False))
def test_the_order_of_arrival_makes_no_difference(found: list[Session], random: Any) -> None:
    """Offline devices send late: the same sessions must make the same bytes."""
    numbered = list(enumerate(found))
    shuffled = random.sample(numbered, len(numbered))
    assert encode(profile_of(shuffled)) == encode(profile_of(numbered))


@given(sessions)
def test_the_profile_is_what_a_person_would_reckon(found: list[Session]) -> None:
    """An oracle of ten lines: sums, the average of the source, days."""
    profile = profile_of(list(enumerate(found)))
    if not found:
        assert profile == {}
        return
    assert profile["total_points"] == sum(points for _, points, _ in found)
    assert profile["total_sessions"] == len(found)
    timed = sorted((hour, number) for number, (hour, _, speed) in enumerate(found) if speed)
    speeds = [found[number][2] for _, number in timed][-SPEED_SAMPLES:]
    if speeds:
        average = speeds[0]
        for speed in speeds[1:]:
            assert average is not None
            assert speed is not None
            average = (1 - SPEED_ALPHA) * average + SPEED_ALPHA * speed
        assert profile["blink_speed"] == pytest.approx(average)
    days = {(START_MS + hour * 3_600_000) // DAY_MS for hour, _, _ in found}
    assert profile["streak"]["total"] == len(days)
    newest = max(days)
    current = next(n for n in range(1, len(days) + 2) if newest - n not in days)
    assert profile["streak"]["current"] == current
    last = max(hour for hour, _, _ in found)
    assert profile["last_session"]["completed_at"] == START_MS + last * 3_600_000


def test_accuracy_is_a_per_cent() -> None:
    """The source's figure: correct answers of all, times a hundred; none of none is 0."""
    assert (accuracy(17, 20), accuracy(0, 0), accuracy(3, 3)) == (85.0, 0.0, 100.0)
