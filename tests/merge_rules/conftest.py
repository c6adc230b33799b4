"""The order in which a mutant meets the tests (see `docs/verification.md`)."""

from importlib import import_module

import pytest

from tests.merge_rules.strategies import FOR_MUTANTS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mutant dies in the first test that fails, so the vectors and the quick tests go first."""
    if FOR_MUTANTS:
        took = import_module("mutmut.state").state().duration_by_test
        items.sort(key=lambda item: ("conformance" not in item.nodeid, took.get(item.nodeid, 0)))
