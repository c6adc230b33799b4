"""The real service under devices that work offline and a network that is against them."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Service
from tests.simulation.machine import HISTORY, Devices

BUDGET = settings(
    max_examples=60,
    stateful_step_count=30,
    # A step is a round trip to a real database; a slow machine is not a failure.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    print_blob=True,
)


@pytest.fixture
def machine(start_service: Callable[..., Service]) -> type[Devices]:
    """The machine, on a service with a short history."""
    Devices.service = start_service(history=HISTORY)
    Devices.coverage = Counter()
    return Devices


def test_devices_converge_and_lose_nothing(machine: type[Devices]) -> None:
    """Lost, doubled, late and reordered requests, wrong clocks and a forgotten history: all
    devices end with the same bytes, which hold every edit exactly once.

    What happened is counted, so that the run cannot pass by doing nothing.
    """
    run_state_machine_as_test(machine, settings=BUDGET)
    for event in ("runs", "merged", "duplicate", "lost answer", "base-unknown", "late"):
        assert machine.coverage[event] > 0, f"no {event}: {machine.coverage}"
