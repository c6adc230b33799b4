"""The dashboard: what it is made of, what it makes of nonsense, and what it costs."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.progress.dashboard import dashboard_of, day_of, streak_days, trend
from app.progress.store import AccountMoment
from app.progress.types import Dashboard
from tests.conftest import Cluster, Service
from tests.costs import figures
from tests.costs.statement_log import StatementLog
from tests.documents.api import put, refused
from tests.documents.contract import CheckedService
from tests.sync.database import fetch

TODAY = date(2026, 11, 30)
NOW_MS = 1_796_040_000_000
DAY_MS = 86_400_000
MANY_LESSONS = """
with head as (insert into heads (account, seq) values ('reader', 1) returning account)
insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, rule,
                       updated_at_ms)
select account, 'lesson:t:' || n, 1, 1, 0, 0, '{"is_completed":true}', '', 'x', 1
from head, generate_series(1, $1::int) n
"""
EMPTY = {
    "profile": {
        "display_name": "",
        "total_points": 0,
        "blink_speed": 2.5,
        "blink_speed_trend": "steady",
        "evolution_level": 1,
        "total_sessions": 0,
        "streak_days": 0,
        "last_session_date": None,
        "is_subscribed": False,
    },
    "progress": {"total_stitches_completed": 0, "thread_progress": {}},
    "recent_sessions": [],
}


def moment(profile: Any = None, player: Any = None, sessions: Any = None) -> AccountMoment:
    texts = [None if one is None else json.dumps(one) for one in (profile, player, None, sessions)]
    return AccountMoment(*texts)


def session(**fields: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "completed_at": NOW_MS, **fields}


# --- trend ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speeds", "average", "expected"),
    [
        ([1.0] * 5, 2.0, "improving"),
        ([3.0] * 5, 2.0, "declining"),
        ([2.0] * 5, 2.0, "steady"),
        ([1.8] * 5, 2.0, "steady"),  # exactly 0.9 of it is no trend, nor is exactly 1.1
        ([1.0] * 5, 1.0 / 1.1, "steady"),
        ([1.0] * 4, 2.0, "steady"),
        ([], 2.5, "steady"),
    ],
)
def test_a_trend_needs_five_sessions_and_a_tenth(
    speeds: list[float | None], average: float, expected: str
) -> None:
    """The definition of the source, at its edges."""
    assert trend(speeds, average) == expected


def test_a_session_without_a_speed_is_no_fast_one() -> None:
    """The source counted it as 0, so that one session without a measurement was an improvement."""
    assert trend([2.0, 2.0, None, 2.0, 2.0], 2.0) == "steady"
    assert trend([None] * 5, 2.0) == "steady"
    assert trend([None, None, None, None, 1.0], 2.0) == "improving"


@given(
    st.lists(st.none() | st.floats(0.01, 100), min_size=5, max_size=5),
    st.floats(0.01, 100),
)
def test_faster_sessions_never_make_a_worse_trend(
    speeds: list[float | None], average: float
) -> None:
    """Less is better: halving every speed can only improve what is told."""
    order = ["declining", "steady", "improving"]
    halved = [None if speed is None else speed / 2 for speed in speeds]
    assert order.index(trend(halved, average)) >= order.index(trend(speeds, average))


# --- streak -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "days"),
    [(0, 4), (-1, 4), (1, 4), (-2, 0), (-400, 0)],
)
def test_a_streak_lives_until_a_day_was_missed(last: int, days: int) -> None:
    """Yesterday's streak may still be kept up today; a day ahead is a user east of Greenwich."""
    streak = {"current": 4, "last": (TODAY + timedelta(days=last)).isoformat()}
    assert streak_days(streak, TODAY) == days


def test_today_is_the_users_own_day_but_within_one_of_utc() -> None:
    """Half the world is a day ahead or behind; nobody is further off."""
    assert day_of(NOW_MS, None) == TODAY
    for offset in (-1, 0, 1):
        day = TODAY + timedelta(days=offset)
        assert day_of(NOW_MS, day.isoformat()) == day
    assert day_of(DAY_MS // 2, "1969-12-31") == date(1969, 12, 31)


def test_a_day_that_is_nowhere_today_is_refused(client: httpx.Client) -> None:
    """It would keep a dead streak alive; and a day that is none is the app's mistake."""
    utc = datetime.now(UTC).date()
    for day in (utc - timedelta(days=3), utc + timedelta(days=3), "2026-02-30", "today", ""):
        answer = client.get("/v1/dashboard", params={"today": str(day)})
        assert refused(answer, 400, "invalid-request")["path"] == "$.today"
    refused(client.get("/v1/dashboard?now=1"), 400, "invalid-request")


# --- documents and events that are odd --------------------------------------------------------

ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300)
    | st.text(max_size=12),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.text(max_size=5), inside),
    max_leaves=4,
)  # fmt: skip
NAMES = (
    "display_name", "total_points", "blink_speed", "evolution_level", "total_sessions", "streak",
    "last_session", "is_subscribed", "current", "last", "completed_at", "thread", "stitch",
    "points", "total_questions", "correct_answers",
)  # fmt: skip
HOLDERS = st.dictionaries(st.sampled_from(NAMES), ODD)


@given(HOLDERS | ODD, HOLDERS | ODD, st.lists(HOLDERS, max_size=5), HOLDERS)
def test_odd_documents_never_break_the_dashboard(
    profile: Any, player: Any, sessions: list[Any], streak: Any
) -> None:
    """The keys were free for apps to use before; the first screen must come up all the same."""
    if isinstance(profile, dict):
        profile.setdefault("streak", streak)
    rows = [{**one, "id": str(uuid4()), "completed_at": 1} for one in sessions]
    made = dashboard_of(moment(profile, player, rows), TODAY)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Dashboard) == made


def test_every_field_comes_from_its_place() -> None:
    """The server's own document counts; what a client says of its points or plan does not."""
    profile = {
        "total_points": 340,
        "total_sessions": 12,
        "blink_speed": 2.0,
        "evolution_level": 3,
        "streak": {"current": 4, "longest": 9, "total": 20, "last": "2026-11-29"},
        "last_session": {"completed_at": NOW_MS - DAY_MS},
        "is_subscribed": True,
    }
    player = {"display_name": "Ana", "total_points": 9_999, "is_subscribed": False}
    rows = [
        session(
            thread="t", stitch="s", points=7, blink_speed=1.5, total_questions=8, correct_answers=6
        )
    ] * 5
    made = dashboard_of(moment(profile, player, rows), TODAY)
    assert made.profile == type(made.profile)(
        "Ana", 340, 2.0, "improving", 3, 12, 4, NOW_MS - DAY_MS, True
    )
    (recent, *_) = made.recent_sessions
    assert (recent.thread, recent.stitch, recent.total_points) == ("t", "s", 7)
    assert (recent.accuracy, recent.blink_speed, recent.completed_at) == (75.0, 1.5, NOW_MS)


def test_an_imported_streak_tells_the_day_of_the_last_session() -> None:
    """The old tables knew the day and no session; the newest session counts where there is one."""
    streak = {"current": 1, "last": "1970-01-03"}
    assert dashboard_of(moment({"streak": streak}), TODAY).profile.last_session_date == 2 * DAY_MS


# --- over HTTP, with rows of a real database --------------------------------------------------


def test_a_new_account_has_an_empty_dashboard(service: CheckedService) -> None:
    """The first screen of a new user is no error, and nobody else's."""
    with service.client() as client:
        answer = client.get("/v1/dashboard")
        assert (answer.status_code, answer.json()) == (200, EMPTY)
        head = client.head("/v1/dashboard")
        assert (head.status_code, head.content) == (200, b"")
        del client.headers["authorization"]
        refused(client.get("/v1/dashboard"), 401, "token-missing")


def test_completed_stitches_are_counted_by_thread(client: httpx.Client) -> None:
    """Only `is_completed: true` counts, in a document that is there; the thread ends at the second
    colon, so a stitch may hold more of them; other keys are no stitches."""
    done, open_ = {"is_completed": True}, {"is_completed": False}
    for key, value in {
        "lesson:addition:s1": done,
        "lesson:addition:s2": {**done, "order_number": 4},
        "lesson:addition:s3": open_,
        "lesson:addition:s4": {"order_number": 1},
        "lesson:geometry:s1": done,
        "lesson:geometry:s:1": done,
        "lesson:~odd._-:s": done,
        "lesson:alone": done,
        "lesson::nobody": done,
        "lesson:nothing:": done,
        "lessons:x:y": done,
        "xlesson:x:y": done,
    }.items():
        assert put(client, key, value).status_code == 201
    put(client, "lesson:geometry:gone", done)
    assert client.delete("/v1/documents/lesson:geometry:gone").status_code == 200
    assert client.get("/v1/dashboard").json()["progress"] == {
        "total_stitches_completed": 5,
        "thread_progress": {"addition": 2, "geometry": 2, "~odd._-": 1},
    }


def test_a_lesson_of_any_form_breaks_nothing(client: httpx.Client, service: Service) -> None:
    """An app may register another rule for its lessons, whose values are then no objects."""
    account = account_of(client)
    for number, value in enumerate(
        ("5", '"x"', "null", "[true]", '{"is_completed":"true"}', '{"is_completed":[true]}')
    ):
        insert_document(service, account, f"lesson:t:{number}", value)
    insert_document(service, account, "lesson:t:good", '{"is_completed":true}')
    progress = client.get("/v1/dashboard").json()["progress"]
    assert progress == {"total_stitches_completed": 1, "thread_progress": {"t": 1}}


def test_the_last_five_sessions_are_shown_newest_first(
    client: httpx.Client, service: Service
) -> None:
    """By when they happened, whatever the order in which they came; without their results."""
    account = account_of(client)
    for number in (3, 0, 6, 1, 5, 2, 4):
        payload = {
            "thread": "t",
            "stitch": f"s{number}",
            "points": number,
            "total_questions": 4,
            "correct_answers": 1,
            "results": ["long" * 100],
        }
        insert_event(service, account, "session", payload, NOW_MS + number)
    insert_event(service, account, "xp", {"amount": 5}, NOW_MS + 9)
    insert_event(service, account + "-other", "session", {"thread": "x"}, NOW_MS + 9)
    sessions = client.get("/v1/dashboard").json()["recent_sessions"]
    assert [one["stitch"] for one in sessions] == ["s6", "s5", "s4", "s3", "s2"]
    assert sessions[0] == {
        "id": sessions[0]["id"],
        "thread": "t",
        "stitch": "s6",
        "total_points": 6,
        "accuracy": 25.0,
        "blink_speed": None,
        "completed_at": NOW_MS + 6,
    }


@pytest.mark.parametrize("documents", [1, 400])
def test_a_dashboard_is_one_statement(
    cluster_18: Cluster, start_service: Callable[..., Service], documents: int
) -> None:
    """So it is of one moment, and costs one round trip however much there is."""
    url = cluster_18.clone()
    log = StatementLog(url)
    log.watch()
    service = start_service(url)
    with service.client("reader") as client:
        fetch(url, MANY_LESSONS, documents)
        client.get("/v1/dashboard")
        with log.recorded() as statements:
            answer = client.get("/v1/dashboard")
    assert answer.json()["progress"]["total_stitches_completed"] == documents
    assert len(statements) == figures.DASHBOARD_STATEMENTS, statements


def account_of(client: httpx.Client) -> str:
    """The account of a client, which its token names."""
    token = client.headers["authorization"].removeprefix("Bearer ")
    account: str = jwt.decode(token, options={"verify_signature": False})["sub"]
    return account


def insert_document(service: Service, account: str, key: str, value: str) -> None:
    """A row as no client of today could write it."""
    fetch(
        service.database_url,
        "insert into heads (account, seq) values ($1, 1) on conflict do nothing",
        account,
    )
    fetch(
        service.database_url,
        "insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, "
        "rule, updated_at_ms) values ($1, $2, 1, 1, 0, 0, $3::text::json, '', 'x', 1)",
        *(account, key, value),
    )


def insert_event(service: Service, account: str, kind: str, payload: Any, at_ms: int) -> None:
    fetch(
        service.database_url,
        "insert into events (account, id, type, payload, digest, effects, occurred_at_ms, "
        "received_at_ms) values ($1, $2, $3, $4::text::json, '', '{}', $5, $5)",
        *(account, uuid4(), kind, json.dumps(payload), at_ms),
    )
