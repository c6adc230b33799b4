"""`syncline migrate`: repeatable, safe side by side, and clear when it cannot."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from app.database.migrate import newest_revision
from tests.cli.conftest import Invoke, clean_environment
from tests.conftest import Cluster, Service


async def _revision(url: str) -> str | None:
    connection = await asyncpg.connect(url)
    try:
        found: str | None = await connection.fetchval("select version_num from alembic_version")
        return found
    finally:
        await connection.close()


async def _create(server: str, database: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(f'create database "{database}"')
    await connection.close()


@pytest.fixture
def empty(cluster: Cluster) -> str:
    """The URL of a database with nothing in it, on both servers."""
    parts = urlsplit(cluster.url)
    name = f"empty_{secrets.token_hex(6)}"
    asyncio.run(_create(urlunsplit(parts._replace(path="/postgres")), name))
    return urlunsplit(parts._replace(path=f"/{name}"))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_migrate_takes_the_urls_that_people_have(invoke: Invoke, empty: str, scheme: str) -> None:
    """Hosters, libpq and SQLAlchemy write the same address in three ways; running twice is safe."""
    url = f"{scheme}{empty.removeprefix('postgresql')}"
    for _ in range(2):
        result = invoke("migrate", SYNCLINE_DATABASE_URL=url)
        assert result.exit_code == 0, result.output
        assert f"up to date (revision {newest_revision()})" in result.stderr
    assert asyncio.run(_revision(empty)) == newest_revision()


def test_two_migrations_at_once_wait_for_each_other(empty: str, folder: Path) -> None:
    """Two containers that start together run the same command on the same new database."""
    command = [sys.executable, "-m", "app.cli", "migrate"]
    environment = clean_environment(SYNCLINE_DATABASE_URL=empty)
    both = [
        subprocess.Popen(command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [(one.communicate(timeout=30)[1], one.returncode) for one in both]
    assert [status for _, status in ends] == [0, 0], ends
    assert asyncio.run(_revision(empty)) == newest_revision()


def test_migrate_on_a_copy_changes_nothing(invoke: Invoke, cluster_18: Cluster) -> None:
    """A database that is up to date already is left alone."""
    url = cluster_18.clone()
    assert invoke("migrate", SYNCLINE_DATABASE_URL=url).exit_code == 0
    assert asyncio.run(_revision(url)) == newest_revision()


def test_a_new_era_expires_cursors(
    invoke: Invoke, cluster_18: Cluster, start_service: Callable[..., Service]
) -> None:
    """After files were restored an old cursor would skip changes, so every client starts over."""
    url = cluster_18.clone()
    with start_service(url).client("maja") as client:
        cursor = client.post("/v1/sync", json={"device": "d1"}).json()["cursor"]
        same = client.post("/v1/sync", json={"device": "d1", "cursor": cursor})
        assert same.status_code == 200
    result = invoke("migrate", "--new-era", SYNCLINE_DATABASE_URL=url)
    assert (result.exit_code, "A new era has begun" in result.stderr) == (0, True)
    with start_service(url).client("maja") as client:
        old = client.post("/v1/sync", json={"device": "d1", "cursor": cursor})
        assert (old.status_code, old.json()["code"]) == (410, "cursor-expired")
        assert client.post("/v1/sync", json={"device": "d1"}).status_code == 200


def _with_password(url: str, password: str) -> str:
    before, _, after = url.rpartition("@")
    return f"{before.rpartition(':')[0]}:{password}@{after}"


@pytest.mark.parametrize("command", ["migrate", "serve"])
@pytest.mark.parametrize("fault", ["scheme", "port", "password", "database"])
def test_a_database_that_cannot_be_used_is_one_sentence(
    invoke: Invoke, cluster_18: Cluster, command: str, fault: str
) -> None:
    """Each of the usual mistakes in an address names the variable, without a traceback."""
    urls = {
        "scheme": "mysql://db/app",
        "port": "postgresql://127.0.0.1:1/app",
        "password": _with_password(cluster_18.url, "wrong"),
        "database": cluster_18.url.replace("/syncline", "/no_such"),
    }
    result = invoke(command, SYNCLINE_DATABASE_URL=urls[fault])
    assert result.exit_code == 1
    assert result.stderr.startswith("syncline: the database cannot be used: ")
    assert "check SYNCLINE_DATABASE_URL" in result.stderr
    assert result.stderr.count("\n") == 1
