"""Attempts at levels: what they are worth says the catalogue."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Service
from tests.ledger.wire import attempt, audit, event, outcomes, record, value
from tests.sync.database import fetch

StartService = Callable[..., Service]


def publish(service: Service, version: int, *levels: tuple[str, int, int, str]) -> None:
    """A catalogue: level, correct answers needed, XP, repeat policy."""
    fetch(service.database_url, "insert into catalogues values ($1, 1)", version)
    for level, min_correct, xp_reward, repeat in levels:
        fetch(
            service.database_url,
            "insert into levels (level, version, min_correct, xp_reward, repeat) "
            "values ($1, $2, $3, $4, $5)",
            *(level, version, min_correct, xp_reward, repeat),
        )


@pytest.fixture
def school(start_service: StartService) -> Service:
    """A service with a catalogue of two levels."""
    running = start_service()
    publish(running, 1, ("again", 7, 15, "every"), ("once", 7, 20, "first"))
    return running


@pytest.fixture
def pupil(school: Service) -> httpx.Client:
    return school.client()


def earned(client: httpx.Client, *events: dict[str, object]) -> list[int]:
    results = record(client, *events)
    assert outcomes(results) == ["accepted"] * len(events)
    return [result["effects"]["xp"] for result in results]


def test_a_passed_attempt_earns_what_the_catalogue_says(pupil: httpx.Client) -> None:
    """From `min_correct` on, exactly; below it nothing, though it is recorded all the same."""
    assert earned(pupil, attempt("again", 6), attempt("again", 7), attempt("again", 10)) == [
        0,
        15,
        15,
    ]
    assert value(pupil, "totals") == {"xp": 30, "points": 0, "events": 3}
    audit(pupil)


def test_a_level_that_is_rewarded_once(pupil: httpx.Client) -> None:
    """Within one request, in later ones, and after attempts that were not passed."""
    assert earned(pupil, attempt("once", 1), attempt("once", 8), attempt("once", 9)) == [0, 20, 0]
    assert earned(pupil, attempt("once", 10)) == [0]
    assert value(pupil, "totals")["xp"] == 20
    audit(pupil)


def test_a_level_is_rewarded_once_however_many_devices_race(school: Service) -> None:
    """Each of ten devices sends its own first attempt at once; one of them is the first."""
    account = f"pupil-{uuid4()}"
    with ThreadPoolExecutor(10) as pool:
        clients = [school.client(account) for _ in range(10)]
        found = list(pool.map(lambda client: earned(client, attempt("once", 9)), clients))
    assert sorted(amount for one in found for amount in one) == [0] * 9 + [20]
    assert value(clients[0], "totals") == {"xp": 20, "points": 0, "events": 10}


def test_an_unknown_level_is_rejected_and_not_lost(school: Service, pupil: httpx.Client) -> None:
    """The device keeps the attempt, and the same one counts once the level is there."""
    early = attempt("new", 9)
    assert outcomes(record(pupil, early)) == ["unknown-level"]
    assert value(pupil, "totals") is None
    publish(school, 2, ("new", 5, 7, "first"))
    assert earned(pupil, early) == [7]
    assert outcomes(record(pupil, early)) == ["duplicate"]


def test_a_catalogue_counts_from_its_publication(school: Service, pupil: httpx.Client) -> None:
    """What was earned stays; what comes is worth what the newest catalogue says, in all
    processes at once; a level that it leaves out is unknown."""
    assert earned(pupil, attempt("again", 8)) == [15]
    publish(school, 2, ("again", 9, 100, "every"))
    assert earned(pupil, attempt("again", 8), attempt("again", 9)) == [0, 100]
    assert outcomes(record(pupil, attempt("once", 9))) == ["unknown-level"]
    assert value(pupil, "totals")["xp"] == 115
    audit(pupil)


@pytest.mark.parametrize(
    "payload",
    [
        {"level": "again", "total_questions": 5, "correct_answers": 6},
        {"level": "again", "total_questions": -1, "correct_answers": -1},
        {"level": "again", "total_questions": 10, "correct_answers": 7.5},
        {"level": "again", "total_questions": 10},
        {"level": "a level with spaces", "total_questions": 10, "correct_answers": 7},
        {"level": "again", "total_questions": 10, "correct_answers": 8, "xp_earned": 10},
        {"level": "again", "total_questions": 10, "correct_answers": 8, "time_spent_s": -1},
    ],
)
def test_an_attempt_that_cannot_be(pupil: httpx.Client, payload: dict[str, object]) -> None:
    """More correct answers than questions would pass any level; XP is not the client's to name."""
    assert outcomes(record(pupil, event("attempt", payload))) == ["invalid-event"]
    assert value(pupil, "totals") is None
