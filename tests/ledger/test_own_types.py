"""Event types of an app's own: registered like rules, trusted as little."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.ledger.loading import load_event_types
from app.main import create_app
from app.settings import Settings
from merge_rules.registry import RegistryError
from tests.conftest import SECRET, Cluster, Service
from tests.ledger.wire import audit, event, outcomes, record, value, xp
from tests.sync.processes import Process

StartService = Callable[..., Service]

MODULE = """
import msgspec
from app.ledger.event_type import Effects, EventRefused, EventType, Reads
from app.ledger.shipped import xp

class Coins(msgspec.Struct, forbid_unknown_fields=True):
    amount: int
    how: str = "well"

def project(payload, occasion, known):
    if payload.how == "badly":
        raise EventRefused("coins are not to be had like that")
    if payload.how == "raising":
        raise KeyError("a bug")
    if payload.how == "looping":
        while True:
            pass
    if payload.how == "fraction":
        return Effects({"coins": 0.5})
    if payload.how == "unread":
        return Effects({"coins": known.total("secret:coins")})
    if payload.how == "forging":
        return Effects({"events": 100})
    if payload.how == "this week":
        return Effects({"xp:2026-W01": 100})
    if payload.how == "with a bonus":
        return Effects({"coins": payload.amount, "xp": known.total("coins")})
    return Effects({"coins": payload.amount, "spent:coins": max(0, -payload.amount)})

def register_events(events):
    events.register(
        EventType("coins", Coins, project, cap={"coins": 100}, minimum={"coins": 0},
                  reads=lambda payload: Reads(["spent:coins"]))
    )
    events.register(xp(cap=50, minimum=0))
"""


@pytest.fixture
def shop(start_service: StartService, tmp_path: Path) -> Service:
    """A service with a type of its own."""
    module = tmp_path / "shop_rules.py"
    module.write_text(MODULE)
    return start_service(rules=str(module))


def coins(amount: int, how: str = "well") -> dict[str, object]:
    return event("coins", {"amount": amount, "how": how})


def test_an_own_type_counts(shop: Service) -> None:
    """Its totals stand beside the shipped ones; those with a colon are nobody's to see."""
    with shop.client() as client:
        results = record(client, coins(30), coins(-10), coins(5, "with a bonus"))
        assert [result["effects"] for result in results] == [
            {"coins": 30},
            {"coins": -10},
            {"coins": 5, "xp": 20},
        ]
        assert value(client, "totals") == {"coins": 25, "xp": 20, "points": 0, "events": 3}
        assert "spent:coins" in {one["name"] for one in audit(client)["totals"]}


def test_a_total_that_must_not_be_overspent(shop: Service) -> None:
    """Each event meets what those before it left, within a request as well."""
    with shop.client() as client:
        results = record(client, coins(-1), coins(10), coins(-8), coins(-8), coins(-2))
        assert outcomes(results) == [
            "total-below-minimum",
            "accepted",
            "accepted",
            "total-below-minimum",
            "accepted",
        ]
        assert results[0]["problem"]["limit"] == 0
        assert value(client, "totals")["coins"] == 0


def test_a_shipped_type_with_another_cap(shop: Service) -> None:
    """The cap is the app's to set."""
    with shop.client() as client:
        results = record(client, xp(50), xp(51), xp(-51), xp(-50), xp(-1))
        assert outcomes(results) == [
            "accepted",
            "amount-over-cap",
            "amount-over-cap",
            "accepted",
            "total-below-minimum",
        ]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("badly", "invalid-event"),
        ("raising", "projection-failed"),
        ("fraction", "projection-failed"),
        ("unread", "projection-failed"),
        ("forging", "projection-failed"),
        ("this week", "projection-failed"),
    ],
)
def test_a_type_that_fails_rejects_its_own_event(shop: Service, how: str, code: str) -> None:
    """Whatever an app's code does, other events stand, and so does the ledger."""
    with shop.client() as client:
        results = record(client, coins(1), coins(2, how), coins(3))
        assert outcomes(results) == ["accepted", code, "accepted"]
        assert value(client, "totals")["coins"] == 4
        audit(client)


def test_a_type_that_loops_is_interrupted(cluster_18: Cluster, tmp_path: Path) -> None:
    """It rejects its own event, and everybody else is served on. A process of its own, since the
    alarm rings in the main thread only."""
    module = tmp_path / "shop_rules.py"
    module.write_text(MODULE)
    process = Process(cluster_18.clone(), rules=str(module))
    try:
        process.wait_until_ready()
        with process.client("player") as client:
            results = record(client, coins(1), coins(2, "looping"), coins(3))
            assert outcomes(results) == ["accepted", "projection-failed", "accepted"]
            assert value(client, "totals")["coins"] == 4
    finally:
        process.end()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("events.register(xp()); events.register(xp())", "registered twice"),
        ("events.register(7)", "no EventType"),
        ("events.register(EventType('A b', Coins, project))", "the name of an event type"),
        ("events.register(EventType('a', dict, project))", "msgspec.Struct"),
        ("events.register(EventType('a', Coins, project, cap={'c': 1.5}))", "cannot be limited"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_module_that_cannot_be_used_stops_the_start(tmp_path: Path, body: str, why: str) -> None:
    """Better no service than one that does not know the events of its app."""
    module = tmp_path / "broken_rules.py"
    beginning = MODULE.partition("def register_events")[0]
    module.write_text(f"{beginning}def register_events(events):\n    {body}\n")
    settings = Settings(
        database_url="postgresql://nobody@127.0.0.1:1/none", jwt_secret=SECRET, rules=str(module)
    )
    with pytest.raises(RegistryError, match=why):
        create_app(settings)


def test_a_module_without_events_keeps_the_shipped_types(tmp_path: Path) -> None:
    """Rules alone are enough."""
    assert set(load_event_types(Settings()).registered()) >= {"xp", "attempt", "session"}
