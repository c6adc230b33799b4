"""Devices that work offline, and a network and a world that are against them."""

from collections import Counter

from hypothesis import seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Cluster
from tests.simulation.budgets import chosen_budget
from tests.simulation.hunt import machine_on, model_maker
from tests.simulation.machine import Devices
from tests.simulation.model import Model
from tests.simulation.network import FAULTS
from tests.simulation.service import bench

EVENTS = (
    "runs",
    "applied",
    "merged",
    "unchanged",
    "duplicate",
    "rejected",
    "stale commit",
    "commit on a forgotten base",
    "base-unknown",
    "device-forked",
    "cursor-expired",
    "late arrival",
    "busy hour",
    "clock set",
    "clone",
    "restored store",
    "restored server",
    "relink",
    "moved edit",
    "folded document",
    "refused on a folded base",
    "rules changed",
    "alone: put",
    "alone: patch",
    "commit on a base of another rule",
    "event accepted",
    "event duplicate",
    "event rejected",
    "event out of order",
    "event of two devices",
    "event clamped",
    "study session",
    "amount-over-cap",
    "invalid-event",
    "id-reused",
    "server-owned",
    "alone: events",
    "event set right",
    "events: crash before commit",
    "events: crash after commit",
    "events: split",
    "fault: read and commit split",
    "fault: crash before commit",
    "fault: crash after commit",
)
RARE = (
    "superseded",
    "delete under a rule that counts",
    "alone: delete",
    "event lost in a restore",
    "event again after a restore",
    "moved event",
    *(f"{sent}: {fault}" for fault in FAULTS for sent in ("fault", "events")),
)


def assert_covered(coverage: Counter[str], *events: str) -> None:
    """Whatever the machine is there for has happened, and more than once."""
    for event in events:
        assert coverage[event] > 1, f"too little of {event!r}: {dict(coverage)}"


def run(machine: type[Devices], budget: settings) -> None:
    """Nightly by chance; for a pull request always the same runs, so that a failure is its own."""
    if not chosen_budget().nightly:
        machine = seed(1)(machine)
    run_state_machine_as_test(machine, settings=budget)


def test_devices_converge_on_the_model() -> None:
    """The algorithm itself: lost, doubled, late and reordered requests, crashes, forgotten
    history, wrong clocks, copied stores, restored backups and moved accounts lose no edit.

    What happened is counted, so that the run cannot pass by doing nothing.
    """
    coverage: Counter[str] = Counter()
    run(machine_on(model_maker(Model), coverage), chosen_budget().on_model())
    assert_covered(coverage, *EVENTS, *RARE)


def test_devices_converge_on_the_service(cluster_18: Cluster) -> None:
    """The same on HTTP and PostgreSQL: it also answers and holds what the model does, at every
    step."""
    coverage: Counter[str] = Counter()
    with bench(cluster_18.clone()) as made:
        run(machine_on(made.server, coverage), chosen_budget().on_service())
    assert_covered(coverage, *EVENTS)
