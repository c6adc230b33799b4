"""Does the machine catch bugs? Those that are planted, it must."""

import pytest
from hypothesis import settings

from tests.conftest import Cluster
from tests.simulation.budgets import BUDGETS
from tests.simulation.bugs import BUGS
from tests.simulation.hunt import hunt, model_maker
from tests.simulation.service import bench
from tests.simulation.service_bugs import SERVICE_BUGS

EASY_ON_THE_SERVICE = (
    "overwrite instead of join",
    "acknowledge without commit",
    "no lock",
    "no dedupe of events",
    "totals counted without the tag",
    "rejected events count",
    "totals in a later commit",
)
"""A smoke test: the command of docs/verification.md plants the others too."""


@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_in_the_model_is_found(bug: str) -> None:
    """A machine that finds no planted bug says nothing when it finds no other.

    The seed is fixed, so this is a check of the machine and no game of chance.
    """
    found = hunt(model_maker(BUGS[bug]), BUDGETS["pr"].on_model(), number=1, shrink=False)
    assert found.found_at is not None, f"not in {found.examples} examples: {found.coverage}"


@pytest.mark.parametrize("bug", EASY_ON_THE_SERVICE)
def test_easy_bugs_in_the_service_are_found(bug: str, cluster_18: Cluster) -> None:
    """The adapter of the real service must not hide what it is to show."""
    budget = settings(BUDGETS["pr"].on_service(), max_examples=100)
    with bench(cluster_18.clone()) as made, SERVICE_BUGS[bug]():
        found = hunt(made.server, budget, number=1, shrink=False)
    assert found.found_at is not None, f"not in {found.examples} examples: {found.coverage}"


@pytest.mark.parametrize("bug", SERVICE_BUGS)
def test_every_bug_in_the_service_can_be_planted(bug: str) -> None:
    """The code under a patch moves on. One that has lost its place plants nothing, and the machine
    seems to be blind."""
    with SERVICE_BUGS[bug]():
        pass
