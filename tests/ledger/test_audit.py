"""The audit over HTTP: it reads all that there is, and holds up nobody."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import httpx

from tests.conftest import Cluster, Service
from tests.ledger.wire import audit, record, xp
from tests.sync.wire import refused

AUDITS_AT_WORK = """
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and query like '%from events%'
"""
ACCOUNTS = 8
"""More than a process has connections."""


def test_audits_take_turns(cluster_18: Cluster, start_service: Callable[..., Service]) -> None:
    """An account with a million events could else hold every connection of a process, and the
    dashboards and boards of all others would wait for it."""
    service = start_service(cluster_18.clone())

    def ask(account: str) -> httpx.Response:
        with service.client(account) as client:
            return client.get("/v1/ledger/audit")

    async def meet() -> tuple[list[httpx.Response], int]:
        loop = asyncio.get_running_loop()
        holder: Any = await asyncpg.connect(service.database_url)
        watcher: Any = await asyncpg.connect(service.database_url)
        with ThreadPoolExecutor(ACCOUNTS + 1) as threads:
            async with holder.transaction():
                await holder.execute("lock table events in access exclusive mode")
                asked = [
                    loop.run_in_executor(threads, ask, f"player-{number}")
                    for number in range(ACCOUNTS)
                ]
                for _ in range(75):
                    if await watcher.fetchval(AUDITS_AT_WORK):
                        break
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)
                at_work = await watcher.fetchval(AUDITS_AT_WORK)
                again = [await loop.run_in_executor(threads, ask, "player-0")]
            answers = [*await asyncio.gather(*asked), *again]
        await holder.close()
        await watcher.close()
        return answers, at_work

    for number in range(ACCOUNTS):
        with service.client(f"player-{number}") as client:
            record(client, xp(1))
    answers, at_work = asyncio.run(meet())
    assert at_work == 1
    refused(answers.pop(), 503, "overloaded")
    assert {answer.status_code for answer in answers} == {200}
    with service.client("player-0") as client:
        assert audit(client)["events"] == 1
