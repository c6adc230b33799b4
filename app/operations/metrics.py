"""/metrics: the numbers of this process in the text format of Prometheus.

Nothing here is told of anything: when it is asked, it reads what the parts of the service count
while they work. No account and no text of a client is ever the value of a label.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import getpid
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.clock import Clock
from app.database.engine import Database
from app.documents.documents import DocumentReader
from app.documents.pipeline import Pipeline
from app.live.deliveries import BOUNDS_MS
from app.live.service import Live
from app.metering import Histogram, NeighbourMeter, Traffic
from app.neighbours.neighbours import Neighbours
from app.sync.exchange import Puller

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Queue(Protocol):
    """Lanes of one kind."""

    @property
    def waiting(self) -> int: ...

    @property
    def batches(self) -> Histogram: ...


@dataclass(frozen=True)
class Sources:
    """The parts of one process that count."""

    traffic: Traffic
    database: Database
    pipeline: Pipeline
    reader: DocumentReader
    puller: Puller
    live: Live
    neighbours: Neighbours | None


class Metrics(Collector):
    """Reads the sources anew each time."""

    def __init__(
        self, sources: Sources, clock: Clock, started_ms: int, version: str, *, workers: int
    ) -> None:
        """Of several workers on one socket a scrape meets any: then each sample says of which."""
        self._sources = sources
        self._clock = clock
        self._started_ms = started_ms
        self._version = version
        self._labels = {"worker": str(getpid())} if workers > 1 else {}
        self._process = ProcessCollector(registry=None)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        for metric in (
            *self._of_the_process(),
            *self._of_requests(),
            *self._of_queues(),
            *self._of_writes(),
            *self._of_neighbours(),
            *self._of_memory(),
            *self._of_sockets(),
        ):
            yield _labelled(metric, self._labels)

    def _of_the_process(self) -> Iterator[Metric]:
        yield from self._process.collect()
        info = GaugeMetricFamily("syncline_info", "The version that runs", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        uptime_s = (self._clock() - self._started_ms) / 1000
        yield GaugeMetricFamily("syncline_uptime_seconds", "Time since the start", uptime_s)

    def _of_requests(self) -> Iterator[Metric]:
        answered = CounterMetricFamily(
            "syncline_http_requests", "Answers", labels=["route", "method", "status"]
        )
        durations = HistogramMetricFamily(
            "syncline_http_request_duration_seconds",
            "From the headers of a request to its whole answer",
            labels=["route", "method"],
        )
        for (route, method), meter in sorted(self._sources.traffic.meters.items()):
            for digit, count in enumerate(meter.statuses):
                if count:
                    answered.add_metric([route, method, f"{digit}xx"], count)
            _add(durations, [route, method], meter.durations)
        yield answered
        yield durations

    def _of_queues(self) -> Iterator[Metric]:
        sources = self._sources
        queues: dict[str, Queue] = {
            "write": sources.pipeline,
            "read": sources.reader,
            "pull": sources.puller,
        }
        waiting = GaugeMetricFamily(
            "syncline_queue_waiting", "Mutations or questions that wait", labels=["queue"]
        )
        sizes = HistogramMetricFamily(
            "syncline_batch_size", "Mutations or questions in a batch", labels=["queue"]
        )
        for name, queue in queues.items():
            waiting.add_metric([name], queue.waiting)
            _add(sizes, [name], queue.batches)
        yield waiting
        yield sizes

    def _of_writes(self) -> Iterator[Metric]:
        meter = self._sources.pipeline.meter
        yield CounterMetricFamily(
            "syncline_commits", "Transactions that changed something", meter.commits
        )
        yield CounterMetricFamily(
            "syncline_batches_contended",
            "Batches of which another process had written an account meanwhile",
            meter.contended,
        )
        yield CounterMetricFamily(
            "syncline_batches_retried",
            "Batches that were tried again after trouble with the database",
            meter.retries,
        )
        yield GaugeMetricFamily(
            "syncline_accounts_parked",
            "Accounts whose writes wait for another session that holds them",
            self._sources.pipeline.parked,
        )

        events = CounterMetricFamily(
            "syncline_events", "Events by what became of them", labels=["type", "outcome"]
        )
        for (kind, outcome), count in sorted(meter.events.items()):
            events.add_metric([kind, outcome], count)
        yield events

    def _of_neighbours(self) -> Iterator[Metric]:
        neighbours = self._sources.neighbours
        meter = NeighbourMeter() if neighbours is None else neighbours.meter
        yield GaugeMetricFamily(
            "syncline_neighbours_linked",
            "Workers of this machine to which writes can be handed over",
            0 if neighbours is None else neighbours.links,
        )
        yield CounterMetricFamily(
            "syncline_neighbours_handed_over",
            "Writes handed over to the home of their account",
            meter.handed_over,
        )
        yield CounterMetricFamily(
            "syncline_neighbours_served", "Writes that neighbours handed over", meter.served
        )
        yield CounterMetricFamily(
            "syncline_neighbours_away",
            "Writes served here since the home of their account could not be asked",
            meter.away,
        )

    def _of_memory(self) -> Iterator[Metric]:
        database, pipeline = self._sources.database, self._sources.pipeline
        yield GaugeMetricFamily(
            "syncline_database_pool_connections", "What the pool may lend", database.pool_size
        )
        yield GaugeMetricFamily(
            "syncline_database_pool_lent", "Connections of the pool in use", database.pool_lent
        )
        yield GaugeMetricFamily(
            "syncline_cache_bytes", "Documents kept in memory, about", pipeline.cache.size
        )
        yield GaugeMetricFamily(
            "syncline_cache_accounts", "Accounts kept in memory", pipeline.cache.accounts
        )
        yield CounterMetricFamily(
            "syncline_cache_hits",
            "Documents that a write found in memory",
            pipeline.meter.cache_hits,
        )
        yield CounterMetricFamily(
            "syncline_cache_misses",
            "Documents that a write had to read",
            pipeline.meter.cache_misses,
        )

    def _of_sockets(self) -> Iterator[Metric]:
        live = self._sources.live
        hub, lag = live.hub, live.deliveries.lag
        yield GaugeMetricFamily("syncline_live_sockets", "Clients connected", hub.sockets)
        yield GaugeMetricFamily("syncline_live_accounts", "Accounts connected", hub.accounts)
        yield CounterMetricFamily(
            "syncline_live_refused", "Clients past the limits of sockets", hub.refused
        )
        frames = CounterMetricFamily("syncline_live_frames", "Frames sent", labels=["type"])
        for kind, count in sorted(hub.frames.items()):
            frames.add_metric([kind], count)
        yield frames
        lags = HistogramMetricFamily(
            "syncline_live_lag_seconds", "From hearing of a change to having sent it"
        )
        _add(lags, [], _in_seconds(lag.buckets, lag.sum_s))
        yield lags
        waiting = GaugeMetricFamily(
            "syncline_live_waiting", "Accounts and sockets that wait", labels=["for"]
        )
        waiting.add_metric(["delivery"], live.deliveries.waiting)
        waiting.add_metric(["relay"], live.relay.waiting)
        waiting.add_metric(["presence"], live.presence.waiting)
        yield waiting
        yield GaugeMetricFamily(
            "syncline_live_presence_rows", "Own sockets in the table", live.presence.rows
        )
        yield GaugeMetricFamily(
            "syncline_live_relay_up", "Whether other processes are heard", int(live.relay.up)
        )
        yield CounterMetricFamily(
            "syncline_live_healed", "Changes of which only a sweep told", live.watch.healed
        )


def _in_seconds(counts: list[int], total_s: float) -> Histogram:
    histogram = Histogram([bound / 1000 for bound in BOUNDS_MS])
    histogram.counts, histogram.total = counts, total_s
    return histogram


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((str(bound), below))
    family.add_metric(labels, buckets, histogram.total)


def _labelled(metric: Metric, labels: Mapping[str, str]) -> Metric:
    if labels:
        metric.samples = [one._replace(labels={**labels, **one.labels}) for one in metric.samples]
    return metric
