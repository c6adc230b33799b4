"""Time, passed in so that tests own it."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the present as milliseconds since 1970-01-01 UTC."""


def system_clock() -> int:
    return time.time_ns() // 1_000_000
