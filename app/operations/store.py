"""The SQL of looking after the service."""

from collections.abc import Iterable
from typing import Any

ESTIMATE = "select reltuples::bigint from pg_class where oid = 'heads'::regclass"
COUNT = "select count(*) from heads"
EXACT_BELOW = 100_000
"""Accounts up to which they are counted; beyond, the planner's estimate is good enough."""


async def count_accounts(connection: Any) -> int:
    estimate: int = await connection.fetchval(ESTIMATE)
    if estimate >= EXACT_BELOW:
        return estimate
    exact: int = await connection.fetchval(COUNT)
    return exact


async def server_version(connection: Any) -> int:
    """server_version_num, such as 180006."""
    return int(await connection.fetchval("show server_version_num"))


async def server_clock_ms(connection: Any) -> int:
    return int(await connection.fetchval("select extract(epoch from clock_timestamp()) * 1000"))


async def switched_off(connection: Any, settings: Iterable[str]) -> list[str]:
    """Those of the server's settings that are off."""
    rows = await connection.fetch(
        "select name from pg_settings where name = any($1) and setting = 'off' order by name",
        list(settings),
    )
    return [row["name"] for row in rows]
