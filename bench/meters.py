"""What a load costs: processor time and memory from /proc, WAL and updates from PostgreSQL."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROCESSORS = os.cpu_count() or 1
_SETTLED_S = 0.25

COUNTERS = """
select pg_current_wal_lsn() - '0/0'::pg_lsn, xact_commit, (select wal_fpi from pg_stat_wal)
from pg_stat_database where datname = current_database()
"""
UPDATES = """
select relname, n_tup_upd, n_tup_hot_upd from pg_stat_user_tables
where relname in ('heads', 'documents', 'revisions')
"""
VERSIONS = """
select account, key, version from documents where split_part(account, '-', 1) = $1
"""
WRITES = """
select coalesce(sum(version), 0)::bigint from documents where split_part(account, '-', 1) = $1
"""
OUTCOMES = """
select outcome, count(*) from revisions
where split_part(account, '-', 1) = $1 and updated_at_ms >= $2 group by outcome
"""


class Moment(msgspec.Struct):
    """Counters at one moment; two of them tell what happened between."""

    at_s: float
    server_s: float
    postgres_s: float
    machine_s: float
    """Processor time of everything on this machine, stolen time included."""
    wal_bytes: int
    commits: int
    """Transactions, those of a single statement included; told up to a second late."""
    page_images: int
    """Whole pages in the WAL: each page that is changed for the first time since a checkpoint."""
    updates: dict[str, tuple[int, int]]
    """By table: all updates, and those that were heap-only."""


def query(url: str, sql: str, *arguments: Any) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            rows: list[Any] = await connection.fetch(sql, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(fetch())


def moment(url: str, server: int, postgres: int) -> Moment:
    """The counters of the processes `server` and `postgres` and of all below them."""
    taken = Moment(
        at_s=time.monotonic(),
        server_s=processor_s(server),
        postgres_s=processor_s(postgres),
        machine_s=_machine_s(),
        wal_bytes=0,
        commits=0,
        page_images=0,
        updates={},
    )
    wal_bytes, taken.commits, taken.page_images = query(url, COUNTERS)[0]
    taken.wal_bytes = int(wal_bytes)
    taken.updates = {row[0]: (row[1], row[2]) for row in query(url, UPDATES)}
    return taken


def versions(url: str, prefix: str) -> dict[tuple[str, str], int]:
    """The versions of the documents of all accounts whose name begins so."""
    return {(row[0], row[1]): row[2] for row in query(url, VERSIONS, prefix)}


def settled_writes(url: str, prefix: str) -> int:
    """All writes ever made to these accounts, once no more come in."""
    writes = -1
    while (now := int(query(url, WRITES, prefix)[0][0])) != writes:
        writes = now
        time.sleep(_SETTLED_S)
    return writes


def outcomes(url: str, prefix: str, since_ms: int) -> dict[str, int]:
    """How many of the kept revisions since a time came about in which way."""
    return {row[0]: row[1] for row in query(url, OUTCOMES, prefix, since_ms)}


def processor_s(root: int) -> float:
    """User and system time of a process and all below it, those that ended included."""
    return sum(sum(map(int, fields[11:15])) for fields in _tree(root)) / _TICKS_PER_S


def memory_bytes(root: int) -> int:
    """Resident memory of a process and all below it; what they share counts for each."""
    return sum(int(fields[21]) for fields in _tree(root)) * os.sysconf("SC_PAGE_SIZE")


def _tree(root: int) -> list[list[str]]:
    """The fields of a process and of all below it, read in one pass: some end meanwhile."""
    found: dict[int, list[str]] = {}
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                found[int(folder.name)] = fields = _stat(folder)
                below.setdefault(int(fields[1]), []).append(int(folder.name))
    pids = [root]
    for pid in pids:
        pids += below.get(pid, [])
    return [found[pid] for pid in pids]


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold spaces: state, parent, …"""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _machine_s() -> float:
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
