"""The service acts as a role that cannot rewrite the ledger."""

import secrets
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from app.database.engine import Database
from app.database.migrate import migrate
from app.database.roles import ROLE, act_as_service
from app.errors import Code, SynclineError
from app.main import StartError, check_database
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


async def test_who_may_only_create_roles_becomes_the_service(cluster_18: Cluster) -> None:
    """On a managed server the user is no superuser. From PostgreSQL 16 on, who creates a role is
    a member that may grant it, and cannot become it until it does."""
    user = f"user_{secrets.token_hex(6)}"
    parts = urlsplit(cluster_18.clone())
    administrator = await asyncpg.connect(urlunsplit(parts))
    try:
        await administrator.execute(f"create role {user} login createrole password 'x'")
        await administrator.execute(
            f"grant {ROLE} to {user} with admin true, inherit false, set false"
        )
        await administrator.execute(f"create database {user} owner {user}")
    finally:
        await administrator.close()
    place = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{user}:x@{place}", path=f"/{user}"))
    owner = Database(url, pool_size=1, statement_timeout_ms=10_000)
    service = Database(url, pool_size=1, statement_timeout_ms=10_000, on_connect=act_as_service)
    try:
        await migrate(owner)
        async with service.connection() as connection:
            assert await connection.fetchval("select current_user::text") == ROLE
    finally:
        await owner.close()
        await service.close()


async def test_rights_are_granted_again(cluster: Cluster) -> None:
    """A dump restored without its rights is mended by the next upgrade. Until then the service,
    which may run, gets no connection, since it would be one of the owner's."""
    url = cluster.clone()
    owner = Database(url, pool_size=1, statement_timeout_ms=10_000)
    service = Database(url, pool_size=1, statement_timeout_ms=10_000, on_connect=act_as_service)
    try:
        async with owner.connection() as connection:
            await connection.execute(f"revoke all on all tables in schema public from {ROLE}")
        with pytest.raises(SynclineError, match=Code.DATABASE_UNAVAILABLE):
            async with service.connection():
                pass
        with pytest.raises(StartError, match="run `syncline migrate`"):
            await check_database(service)
        await migrate(owner)
        async with service.connection() as connection:
            assert await connection.fetchval("select count(*) from heads") == 0
    finally:
        await owner.close()
        await service.close()
