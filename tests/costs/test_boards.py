"""How many statements a leaderboard costs."""

from collections.abc import Iterator

import pytest

from tests.conftest import Cluster
from tests.costs import figures
from tests.costs.statement_log import StatementLog
from tests.leaderboard.lab import Lab, Server, query, redis_server

FILL = """
insert into standings (account, board, score, listed)
select 'p' || n, 'xp', n, true from generate_series(1, 300) n
"""

STATEMENTS = {
    "postgresql": figures.BOARD_STATEMENTS,
    "redis": figures.CACHED_BOARD_STATEMENTS,
}


@pytest.fixture
def server() -> Iterator[Server]:
    with redis_server() as running:
        yield running


@pytest.fixture
def log(cluster_18: Cluster) -> StatementLog:
    """Of a database whose statements are logged."""
    watched = StatementLog(cluster_18.clone())
    watched.watch()
    return watched


@pytest.mark.parametrize("source", ["postgresql", "redis"])
@pytest.mark.parametrize("changed", [0, 100])
async def test_a_board_costs_the_same_statements_whatever_is_shown(
    log: StatementLog, server: Server, source: str, changed: int
) -> None:
    """A look-up a player would make the first hundred a hundred times as dear as the first."""
    lab = Lab(log.url)
    await lab.execute(FILL)
    process = await lab.process(server.url if source == "redis" else None)
    for _ in range(3):
        await lab.settle(process)
    await lab.execute("update standings set score = score + 1 where score > 300 - $1::int", changed)
    for limit, around in ((1, False), (100, False), (99, True)):
        with log.recorded() as statements:
            answer = await process.board.read("p150", "xp", query(limit, around))
        assert len(answer.entries) == limit
        assert len(statements) == STATEMENTS[source], "\n".join(statements)
    assert process.board.answered[source] == 3
    await lab.close()
