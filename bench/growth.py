"""`syncline bench growth`: what a request costs as the documents grow to ten million.

At each size the tables are emptied and filled anew (see fill.py), PostgreSQL is started afresh
with durable settings, and a running service is measured over HTTP on accounts drawn at random
from all there are.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import httpx
import msgspec

from app.clock import system_clock
from app.database.era import NEWEST_ERA
from app.sync.cursor import Cursor
from bench import fill, meters
from bench.generators import CONNECTIONS, FailedRun, Generator, Load
from bench.run import EXPECTED_SHARE, Measured, measured
from bench.service import (
    DATABASE_OPTIONS,
    Database,
    Service,
    database_in,
    fresh_folder,
    fresh_service,
)
from bench.workloads import GROWTH_KEYS, GROWTH_VALUES, Item, Plan, Workload

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
DRAWN_ACCOUNTS = 9_000
"""At most: their tokens fit the service's cache, so verifying them costs the same at all sizes."""
DRAWN_DOCUMENTS = 100_000
CHANGES = 3
START_WORK_S = 120.0
_SEED = 20261121

HELD = "select account, key, version from documents where account = any($1)"
WRITES = "select sum(version)::bigint from documents where account = any($1)"
HEADS = """
select account, max(seq), (array_agg(seq order by seq desc))[$2 + 1] from documents
where account = any($1) group by account
"""
OUTCOMES = """
select outcome, count(*) from revisions
where account = any($1) and updated_at_ms >= $2 group by outcome
"""
BUSY = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'syncline' and state <> 'idle'
"""

_BODIES = tuple(
    f'{{"base":@b,"device":"{fill.DEVICES[0]}","value":{value}}}' for value in GROWTH_VALUES
)
WRITE = Workload("W1", "write one document", "", None, bodies=_BODIES, outcome="applied")
READ = Workload("R1", "read one document", "", None)
NOTHING_NEW = Workload("pull-0", "pull, nothing new", "", None)
THREE_NEW = Workload(f"pull-{CHANGES}", f"pull {CHANGES} changes", "", None)
WORKS = (READ, NOTHING_NEW, THREE_NEW, WRITE)
"""Reading first: writing leaves dirty pages to be written meanwhile."""


class GrowthOptions(msgspec.Struct, frozen=True):
    """How to measure; `sizes` in documents, `folder` holds the database while it is needed."""

    sizes: tuple[int, ...] = SIZES
    seconds: float = 10.0
    warm_up_s: float = 3.0
    rounds: int = 3
    folder: str | None = None
    settings: dict[str, str] = {}
    active: int = DRAWN_ACCOUNTS
    """Accounts that are asked for, at most. All else is there, and nobody asks for it."""


class Step(msgspec.Struct):
    """One size: what filling took, what a document takes on disk, what requests cost."""

    documents: int
    accounts: int
    drawn_accounts: int
    fill_s: float
    bytes: dict[str, fill.TableBytes]
    rounds: dict[str, list[Measured]]
    memory_before_bytes: int
    memory_bytes: int
    """Of the service: before the load, and after it."""

    @property
    def bytes_per_document(self) -> float:
        return sum(one.table + one.indexes for one in self.bytes.values())


class Growth(msgspec.Struct):
    """A whole run, in the order of sizes."""

    options: GrowthOptions
    generator: str
    steps: list[Step]


class Progress(Protocol):
    """Whom to tell how far it is."""

    def say(self, text: str) -> None: ...

    def begin(self, total: int) -> None:
        """Filling begins: so many accounts, counted once for each table."""

    def advance(self, stage: str, accounts: int) -> None:
        """So many more are in the table `stage`; none while a key is built."""

    def end(self) -> None:
        """Everything is filled."""


@dataclass(frozen=True)
class _Drawn:
    """The accounts that are measured, with their tokens."""

    database: Database
    service: Service
    generator: Generator
    tokens: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        return list(self.tokens)


def grow(options: GrowthOptions, generator: Generator, progress: Progress) -> Growth:
    """Measures each size; raises FailedRun if one does not fit or an answer is no success."""
    parent = None if options.folder is None else Path(options.folder)
    with fresh_folder(parent) as folder:
        fill.check_room(folder, max(options.sizes), fill.BYTES_PER_DOCUMENT)
        progress.say("Starting; the service writes the accounts that will be copied.")
        with database_in(folder, fill.OPTIONS) as database, fresh_service(database, 1) as service:
            names = fill.make_templates(service.url, service.token)
            templates = fill.read_templates(database.url, names)
        steps: list[Step] = []
        for documents in options.sizes:
            if steps:
                fill.check_room(folder, documents, steps[-1].bytes_per_document)
            accounts = documents // len(GROWTH_KEYS)
            progress.say(f"{documents:,} documents: filling.")
            began = time.monotonic()
            with database_in(folder, fill.OPTIONS) as database:
                progress.begin(accounts * len(fill.filled(templates)))
                fill.fill_tables(database.url, templates, accounts, progress.advance)
                progress.end()
            fill_s = time.monotonic() - began
            progress.say(f"{documents:,} documents: filled in {fill_s:.0f} s; measuring.")
            with database_in(folder, DATABASE_OPTIONS) as database:
                step = _measure_size(database, accounts, options, generator, progress)
            step.fill_s = fill_s
            steps.append(step)
        return Growth(options, generator.name, steps)


def _measure_size(
    database: Database,
    accounts: int,
    options: GrowthOptions,
    generator: Generator,
    progress: Progress,
) -> Step:
    documents = accounts * len(GROWTH_KEYS)
    numbers = Random(_SEED).sample(range(accounts), min(accounts, options.active))
    sizes = fill.sizes(database.url, documents)
    with fresh_service(database, 1, options.settings) as service:
        tokens = {name: service.token(name) for name in map(fill.account_name, numbers)}
        drawn = _Drawn(database, service, generator, tokens)
        _await_rest(database)
        memory_before = meters.memory_bytes(service.process)
        rounds: dict[str, list[Measured]] = {work.name: [] for work in WORKS}
        for number in range(options.rounds):
            for work in WORKS:
                progress.say(f"{documents:,} documents, round {number + 1}: {work.meaning}.")
                rounds[work.name].append(_measure(drawn, work, options))
        memory = meters.memory_bytes(service.process)
    return Step(documents, accounts, len(tokens), 0.0, sizes, rounds, memory_before, memory)


def _await_rest(database: Database) -> None:
    """Waits until the service has done what it does at its start: it walks over all documents."""
    still, deadline = 0, time.monotonic() + START_WORK_S
    while still < 8 and time.monotonic() < deadline:
        busy = meters.query(database.url, BUSY)[0][0]
        still = 0 if busy else still + 1
        time.sleep(0.25)


def _measure(drawn: _Drawn, work: Workload, options: GrowthOptions) -> Measured:
    url = drawn.database.url
    meters.query(url, "checkpoint")
    if options.warm_up_s:
        drawn.generator.run(_plan(drawn, work), drawn.service.url, options.warm_up_s)
    writes, began_ms = _settled_writes(drawn), system_clock()
    plan = _plan(drawn, work)
    _try_one(drawn, work, plan)
    before = meters.moment(url, drawn.service.process, drawn.database.process)
    load = drawn.generator.run(plan, drawn.service.url, options.seconds)
    after = meters.moment(url, drawn.service.process, drawn.database.process)
    if load.errors or not load.requests:
        log = drawn.service.log.read_text()[-2000:]
        raise FailedRun(f"{load.errors} of {load.requests} requests failed. The log ends:\n{log}")
    found = _check_outcomes(drawn, work, load, writes, began_ms)
    return measured(work, load, before, after, 0.0, found)


def _asked(drawn: _Drawn, sql: str, *arguments: Any) -> list[Any]:
    return meters.query(drawn.database.url, sql, drawn.names, *arguments)


def _settled_writes(drawn: _Drawn) -> int:
    """All writes ever made to these accounts, once no more come in."""
    writes = -1
    while (now := int(_asked(drawn, WRITES)[0][0])) != writes:
        writes = now
        time.sleep(0.25)
    return writes


def _check_outcomes(
    drawn: _Drawn, work: Workload, load: Load, writes: int, began_ms: int
) -> dict[str, int]:
    made = _settled_writes(drawn) - writes
    wanted = load.requests if work.outcome else 0
    if not wanted <= made <= wanted + (CONNECTIONS if work.outcome else 0):
        raise FailedRun(f"{work.name}: {wanted} writes were answered, but {made} made")
    rows = _asked(drawn, OUTCOMES, began_ms) if wanted else []
    found = {row[0]: row[1] for row in rows}
    if wanted and found.get(work.outcome, 0) < EXPECTED_SHARE * sum(found.values()):
        raise FailedRun(f"{work.name}: not all were {work.outcome}: {found}")
    return found


def _plan(drawn: _Drawn, work: Workload) -> Plan:
    """Requests in random order; after the last, the first again."""
    if work in (NOTHING_NEW, THREE_NEW):
        items, bodies = _pulls(drawn, 0 if work is NOTHING_NEW else CHANGES)
    else:
        items, bodies = _single(drawn, writes=work is WRITE), work.bodies
    Random(_SEED).shuffle(items)
    return Plan(items[:DRAWN_DOCUMENTS], bodies, 0)


def _single(drawn: _Drawn, *, writes: bool) -> list[Item]:
    body_of = {key: index for index, key in enumerate(GROWTH_KEYS)}
    rows = sorted((row[0], row[1], row[2]) for row in _asked(drawn, HELD))
    return [
        Item(
            "PUT" if writes else "GET",
            f"/v1/documents/{key}",
            drawn.tokens[account],
            body_of[key] if writes else None,
            version,
        )
        for account, key, version in rows
    ]


def _pulls(drawn: _Drawn, changes: int) -> tuple[list[Item], Sequence[str]]:
    """Pulls of so many changes: each cursor stands before the last so many of its account."""
    ((era,),) = meters.query(drawn.database.url, NEWEST_ERA)
    bodies: dict[str, int] = {}
    items = []
    for account, head, before in _asked(drawn, HEADS, changes):
        cursor = Cursor(era, before if changes else head).encode()
        body = f'{{"device":"{fill.DEVICES[0]}","cursor":"{cursor}","mutations":[]}}'
        index = bodies.setdefault(body, len(bodies))
        items.append(Item("POST", "/v1/sync", drawn.tokens[account], index, 0))
    items.sort(key=lambda item: item.token)
    return items, list(bodies)


def _try_one(drawn: _Drawn, work: Workload, plan: Plan) -> None:
    """What the load is, seen once: a wrong cursor would still be answered with success."""
    if work is WRITE:
        return
    item = plan.items[0]
    answer = httpx.request(
        item.method,
        drawn.service.url + item.path,
        headers={"Authorization": f"Bearer {item.token}"},
        content=None if item.body is None else plan.bodies[item.body],
    )
    if work is READ:
        good = answer.status_code == 200 and answer.json()["version"] == item.version
    else:
        wanted = 0 if work is NOTHING_NEW else CHANGES
        good = answer.status_code == 200 and len(answer.json()["changes"]) == wanted
    if not good:
        raise FailedRun(f"{work.name}: not what was meant: {answer.text[:500]}")
