"""What the largest sync takes of Python's memory, and that it gives it back."""

import gc
import sys
import tracemalloc
from collections.abc import Callable

import httpx

from tests.conftest import Service
from tests.costs import figures
from tests.sync.wire import sync

StartService = Callable[..., Service]
MUTATIONS = 500
VALUE = {f"field_{number}": f"value number {number}" for number in range(14)}


def push(client: httpx.Client, number: int) -> None:
    """Writes 500 documents of about 400 bytes on their current version."""
    mutations = [
        {
            "id": f"0199aaaa-{number:04x}-7000-8000-{index:012x}",
            "op": "put",
            "key": f"k{index}",
            "base": number,
            "value": {**VALUE, "n": number},
        }
        for index in range(MUTATIONS)
    ]
    outcomes = [result["outcome"] for result in sync(client, *mutations)["results"]]
    assert outcomes == ["applied"] * MUTATIONS


def test_a_sync_of_500_takes_bounded_memory(start_service: StartService) -> None:
    """One that takes many times its body lets a few devices exhaust a small machine."""
    with start_service().client() as client:
        push(client, 0)
        tracemalloc.start()
        try:
            push(client, 1)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak <= figures.SYNC_PEAK_BYTES


def test_syncs_leave_nothing_behind(start_service: StartService) -> None:
    """A cache without a bound, or a list that grows, shows in blocks long before it hurts."""
    with start_service().client() as client:
        for number in range(5):
            push(client, number)
        before = _blocks()
        for number in range(5, 25):
            push(client, number)
        assert _blocks() - before <= figures.KEPT_BLOCKS


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()
