"""What the service counts while it works: plain numbers, which /metrics reads when it is asked."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from time import perf_counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
METHODS = frozenset(("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"))
OTHER = "other"
"""A route or a method that the service does not have: what clients make up names no series."""


class Histogram:
    """How many values came to at most each of the bounds, and all of them together."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Between one bound and the next; the last is of what is past them all."""
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RouteMeter:
    """The answers of one method of one route."""

    __slots__ = ("durations", "statuses")

    def __init__(self) -> None:
        self.durations = Histogram(DURATIONS_S)
        self.statuses = [0] * 6
        """By their first digit."""

    def note(self, status: int, started: float) -> None:
        """An answer was sent; `started` is what `perf_counter()` said when it was asked for."""
        self.statuses[status // 100] += 1
        self.durations.add(perf_counter() - started)


class Traffic:
    """Requests that were answered, by route and method."""

    def __init__(self) -> None:
        self.meters: dict[tuple[str, str], RouteMeter] = {}

    def meter(self, route: str, method: str) -> RouteMeter:
        found = self.meters.get((route, method))
        if found is None:
            found = self.meters[route, method] = RouteMeter()
        return found

    def measured(self, app: ASGIApp) -> ASGIApp:
        """The app, with each of its answers noted under the template of the path it matched."""

        async def measure(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            status, started = 0, perf_counter()

            async def note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, note)
            finally:
                if status:
                    method = scope["method"] if scope["method"] in METHODS else OTHER
                    route = scope.get("path_template") or OTHER
                    self.meter(route, method).note(status, started)

        return measure


class NeighbourMeter:
    """Writes whose account is at home at another worker of this machine, and those of others."""

    __slots__ = ("away", "handed_over", "served")

    def __init__(self) -> None:
        self.handed_over = 0
        """To the home, which may still have declined."""
        self.served = 0
        """For neighbours, as the home of the account."""
        self.away = 0
        """Served here, since the home could not be asked."""


class WriteMeter:
    """What became of batches of writes."""

    __slots__ = ("cache_hits", "cache_misses", "commits", "contended", "events", "retries")

    def __init__(self) -> None:
        self.commits = 0
        """Transactions that wrote something."""
        self.contended = 0
        """Batches of which another process had written an account meanwhile."""
        self.retries = 0
        """Batches that were tried again after trouble with the database."""
        self.events: Counter[tuple[str, str]] = Counter()
        """By type and outcome, as far as they could be read."""
        self.cache_hits = 0
        """Documents that a write found in memory."""
        self.cache_misses = 0
