"""The service acts as a role that cannot rewrite the ledger."""

import asyncpg
import pytest

from app.database.engine import Database
from app.database.migrate import migrate
from app.database.roles import ROLE, act_as_service
from tests.conftest import Cluster

EVENT = """
insert into events (account, id, type, payload, digest, effects, occurred_at_ms, received_at_ms)
values ('a', gen_random_uuid(), 'xp', '{}', '', '{}', 1, 1)
"""


@pytest.mark.parametrize(
    "statement", ["update events set type = 'other'", "delete from events", "truncate events"]
)
async def test_the_service_cannot_rewrite_the_ledger(cluster: Cluster, statement: str) -> None:
    """Append-only is a right that the database does not give, not a habit of the code."""
    database = Database(
        cluster.clone(), pool_size=1, statement_timeout_ms=10_000, on_connect=act_as_service
    )
    try:
        async with database.connection() as connection:
            assert await connection.fetchval("select current_user::text") == ROLE
            await connection.execute(EVENT)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
            assert await connection.fetchval("select count(*) from events where type = 'xp'") == 1
    finally:
        await database.close()


async def test_rights_are_granted_again(cluster: Cluster) -> None:
    """A dump restored without its rights is mended by the next upgrade."""
    url = cluster.clone()
    owner = Database(url, pool_size=1, statement_timeout_ms=10_000)
    try:
        async with owner.connection() as connection:
            await connection.execute(f"revoke all on all tables in schema public from {ROLE}")
        await migrate(owner)
        async with owner.connection() as connection:
            await act_as_service(connection)
            assert await connection.fetchval("select count(*) from heads") == 0
    finally:
        await owner.close()
