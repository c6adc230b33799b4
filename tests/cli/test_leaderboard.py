"""`syncline leaderboard rebuild`."""

from collections.abc import Iterator

import pytest
from click.testing import Result

from tests.cli.conftest import Invoke
from tests.conftest import Cluster
from tests.leaderboard.lab import Server, redis_server
from tests.sync.database import fetch

FILL = """
insert into standings (account, board, score, listed)
select 'p' || n, 'xp', n, n > 1 from generate_series(1, 9) n
"""


def test_the_doctor_asks_redis(invoke: Invoke, cluster_18: Cluster, server: Server) -> None:
    """Whoever set it up wants to know that it is found."""
    variables = {"SYNCLINE_DATABASE_URL": cluster_18.clone(), "SYNCLINE_REDIS_URL": server.url}
    (line,) = (one for one in invoke("doctor", **variables).stdout.splitlines() if "Redis" in one)
    assert "ok" in line


@pytest.fixture
def server() -> Iterator[Server]:
    with redis_server() as running:
        yield running


def row(result: Result) -> list[str]:
    """The cells of the one board."""
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("│"))
    return [cell.strip() for cell in line.split("│")][1:-1]


def test_boards_are_rebuilt(invoke: Invoke, cluster: Cluster, server: Server) -> None:
    """After an import or a repair an operator wants the boards right now, and to be told."""
    url = cluster.clone()
    fetch(url, FILL)
    result = invoke("leaderboard", "rebuild", SYNCLINE_DATABASE_URL=url)
    assert result.exit_code == 0, result.stderr
    assert row(result) == ["xp", "8", "-"]
    result = invoke(
        "leaderboard", "rebuild", SYNCLINE_DATABASE_URL=url, SYNCLINE_REDIS_URL=server.url
    )
    assert row(result) == ["xp", "8", "yes"]
    assert server.client().zcard(server.set_of("xp")) == 8


def test_redis_that_is_away_is_told(invoke: Invoke, cluster_18: Cluster) -> None:
    """The boards are right without it; the operator sees that it has none."""
    url = cluster_18.clone()
    fetch(url, FILL)
    result = invoke(
        "leaderboard",
        "rebuild",
        SYNCLINE_DATABASE_URL=url,
        SYNCLINE_REDIS_URL="redis://127.0.0.1:1/0",
    )
    assert result.exit_code == 0, result.stderr
    assert row(result) == ["xp", "8", "-"]


def test_a_wrong_address_of_redis_is_told(invoke: Invoke) -> None:
    """A typo must not become a traceback, nor a service without its Redis."""
    result = invoke("config", SYNCLINE_REDIS_URL="localhost:6379")
    assert result.exit_code == 1
    assert "SYNCLINE_REDIS_URL: it begins with redis://" in result.stderr


def test_a_database_without_its_rights_is_one_sentence(invoke: Invoke, cluster: Cluster) -> None:
    """A dump was restored, and nobody has upgraded it: what to do must be told."""
    url = cluster.clone()
    fetch(url, "revoke all on all tables in schema public from syncline_service")
    result = invoke("leaderboard", "rebuild", SYNCLINE_DATABASE_URL=url)
    assert result.exit_code == 1
    assert result.stderr == "syncline: the database is not up to date: run `syncline migrate`\n"
