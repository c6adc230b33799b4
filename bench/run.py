"""One run: everything on the same database, round by round, so that ratios mean something."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import msgspec

from app.clock import system_clock
from app.database.era import NEWEST_ERA
from bench import meters, reference
from bench.generators import CONNECTIONS, FailedRun, Generator, Load, PythonGenerator
from bench.service import Database, Service, fresh_database, fresh_service
from bench.workloads import (
    KEYS,
    LESSON_KEYS,
    SYNC_KEYS,
    SYNC_LESSONS,
    WORKLOADS,
    Plan,
    Workload,
    account_names,
    plan,
    seed_plan,
)

EXPECTED_SHARE = 0.999
"""Of the writes of a workload that come to its outcome: all, but for what a stall makes stale."""


class Options(msgspec.Struct, frozen=True):
    """How to measure: `seconds` a round; every account has 3 + 25 documents."""

    seconds: float = 10.0
    warm_up_s: float = 2.0
    rounds: int = 3
    accounts: int = 2_000
    workers: int = 1
    only: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    """Of the service, by their variables."""


class Measured(msgspec.Struct):
    """One round of one workload. Costs are per request, WAL bytes per document written."""

    load: Load
    documents_per_s: float
    reference_per_s: float
    server_ms: float
    postgres_ms: float
    generator_ms: float
    others_share: float
    """Processor time that everything else took, as a share of the whole machine."""
    wal_bytes: float | None
    page_images: float | None
    """Whole pages in the WAL for each document written."""
    commits: float
    """Transactions a request: below 1 where writes are committed together."""
    hot: dict[str, float]
    """By table: the share of updates that were heap-only."""
    outcomes: dict[str, int]


class Result(msgspec.Struct):
    """All rounds by workload, and the server's memory before the load and after it."""

    options: Options
    generator: str
    rounds: dict[str, list[Measured]]
    memory_before_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class Bench:
    """What is measured, filled with documents."""

    database: Database
    service: Service
    generator: Generator
    options: Options
    tokens: dict[str, dict[str, str]]
    """By prefix of the account: the token of each."""


def run(options: Options, generator: Generator, say: Callable[[str], None]) -> Result:
    """Measures; raises FailedRun if the service answered anything but success."""
    works = [work for work in WORKLOADS if not options.only or work.name in options.only]
    say("Starting, and filling the tables.")
    with opened(options, generator) as bench:
        memory_before = meters.memory_bytes(bench.service.process)
        rounds: dict[str, list[Measured]] = {work.name: [] for work in works}
        for number in range(options.rounds):
            references: dict[str, float] = {}
            for work in works:
                if work.reference not in references:
                    say(f"Round {number + 1}: pgbench, {work.reference}.")
                    references[work.reference] = _reference(bench, work.reference)
                say(f"Round {number + 1}: {work.name}, {work.meaning}.")
                rounds[work.name].append(_measure(bench, work, references[work.reference]))
        memory = meters.memory_bytes(bench.service.process)
        return Result(options, generator.name, rounds, memory_before, memory)


@contextmanager
def opened(options: Options, generator: Generator) -> Iterator[Bench]:
    """A fresh database and service with all documents in them."""
    with (
        fresh_database() as database,
        fresh_service(database, options.workers, options.settings) as service,
    ):
        bench = Bench(database, service, generator, options, _tokens(service, options.accounts))
        _check_tokens_count(bench)
        _fill(bench)
        yield bench


def _tokens(service: Service, accounts: int) -> dict[str, dict[str, str]]:
    return {
        prefix: {name: service.token(name) for name in account_names(prefix, accounts)}
        for prefix in ("player", "class")
    }


def _check_tokens_count(bench: Bench) -> None:
    """A service that lets everybody in would be measured too fast."""
    token = next(iter(bench.tokens["player"].values()))
    forged = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
    for headers in ({}, {"Authorization": f"Bearer {forged}"}):
        answer = httpx.get(f"{bench.service.url}/v1/documents", headers=headers)
        if answer.status_code != 401:
            raise FailedRun(f"without a good token the service answers {answer.status_code}")


def _fill(bench: Bench) -> None:
    for prefix, body in (("player", SYNC_KEYS), ("class", SYNC_LESSONS)):
        load = PythonGenerator().run_once(seed_plan(body, bench.tokens[prefix]), bench.service.url)
        _refuse_errors(bench, load)
        keys: Sequence[str] = KEYS if prefix == "player" else LESSON_KEYS
        expected = bench.options.accounts * len(keys)
        if meters.settled_writes(bench.database.url, prefix) != expected:
            raise FailedRun(f"the service did not store all {expected} documents")
    reference.prepare(bench.database.url, bench.options.accounts)
    meters.query(bench.database.url, "analyze")


def _reference(bench: Bench, name: str) -> float:
    url, options = bench.database.url, bench.options
    meters.query(url, "checkpoint")
    if options.warm_up_s:
        reference.rate(url, name, options.accounts, options.warm_up_s)
    return reference.rate(url, name, options.accounts, options.seconds)


def _measure(bench: Bench, work: Workload, reference_per_s: float) -> Measured:
    url = bench.database.url
    processes = (bench.service.process, bench.database.process)
    meters.query(url, "checkpoint")  # the same start for all, pgbench too
    if bench.options.warm_up_s:
        bench.generator.run(prepare_load(bench, work), bench.service.url, bench.options.warm_up_s)
    prepared = prepare_load(bench, work)
    writes, began_ms = meters.settled_writes(url, work.prefix), system_clock()
    before = meters.moment(url, *processes)
    load = bench.generator.run(prepared, bench.service.url, bench.options.seconds)
    after = meters.moment(url, *processes)
    _refuse_errors(bench, load)
    writes = meters.settled_writes(url, work.prefix) - writes
    found = _check_outcomes(url, work, load, writes, began_ms)
    return measured(work, load, before, after, reference_per_s, found)


def prepare_load(bench: Bench, work: Workload) -> Plan:
    meters.settled_writes(bench.database.url, work.prefix)
    versions = meters.versions(bench.database.url, work.prefix)
    ((era,),) = meters.query(bench.database.url, NEWEST_ERA)
    return plan(work, bench.tokens[work.prefix], versions, era)


def _refuse_errors(bench: Bench, load: Load) -> None:
    if load.errors or not load.requests:
        log = bench.service.log.read_text()[-2000:]
        raise FailedRun(f"{load.errors} of {load.requests} requests failed. The log ends:\n{log}")


def _check_outcomes(
    url: str, work: Workload, load: Load, writes: int, began_ms: int
) -> dict[str, int]:
    """What became of the writes, from the database; raises FailedRun if not what was meant."""
    if work.outcome is None:
        return {}
    # The requests under way when the generator stopped are committed but not counted by it.
    low = load.requests * work.documents
    high = (load.requests + CONNECTIONS) * work.documents
    if not low <= writes <= high:
        raise FailedRun(f"{work.name}: {low} documents were answered, but {writes} written")
    found = meters.outcomes(url, work.prefix, began_ms)
    share = found.get(work.outcome, 0) / max(1, sum(found.values()))
    if share < EXPECTED_SHARE:
        raise FailedRun(f"{work.name}: only {share:.1%} were {work.outcome}: {found}")
    return found


def measured(
    work: Workload,
    load: Load,
    before: meters.Moment,
    after: meters.Moment,
    reference_per_s: float,
    found: dict[str, int],
) -> Measured:
    server_s, postgres_s = after.server_s - before.server_s, after.postgres_s - before.postgres_s
    machine_s = after.machine_s - before.machine_s
    others_s = max(0.0, machine_s - server_s - postgres_s - load.processor_s)
    documents = load.requests * work.documents
    return Measured(
        load=load,
        documents_per_s=documents / load.seconds,
        reference_per_s=reference_per_s,
        server_ms=server_s / load.requests * 1000,
        postgres_ms=postgres_s / load.requests * 1000,
        generator_ms=load.processor_s / load.requests * 1000,
        others_share=others_s / (meters.PROCESSORS * (after.at_s - before.at_s)),
        wal_bytes=(after.wal_bytes - before.wal_bytes) / documents if work.outcome else None,
        page_images=(
            (after.page_images - before.page_images) / documents if work.outcome else None
        ),
        commits=(after.commits - before.commits) / load.requests,
        hot=_hot(before, after) if work.outcome else {},
        outcomes=found,
    )


def _hot(before: meters.Moment, after: meters.Moment) -> dict[str, float]:
    shares = {}
    for table, (updates, hot) in after.updates.items():
        earlier = before.updates.get(table, (0, 0))
        if updates > earlier[0]:
            shares[table] = (hot - earlier[1]) / (updates - earlier[0])
    return shares


def now_text() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
