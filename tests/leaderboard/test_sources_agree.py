"""The answer from Redis is that from PostgreSQL, and both are that of ten lines of Python."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from app.leaderboard import keeper, leaderboard, redis_boards, store
from app.leaderboard.names import invented_name
from tests.leaderboard.lab import NOW_MS, Lab, Process, Rows, Server, oracle, query, seen

ACCOUNTS = ["a", "B", "b", "é", "z", "\U0001f600", "￿", "b1"]
"""Equal scores stand in the order of bytes, which is not that of UTF-16 nor of any language."""
Step = tuple[Any, ...]
SCORES = st.integers(-1, 6) | st.just(2**53 - 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(ACCOUNTS), SCORES, st.booleans()),
    st.tuples(st.just("write"), st.sampled_from(ACCOUNTS), st.integers(1, 6), st.just(True)),
    st.tuples(st.just("settle"), st.integers(0, 1)),
    st.tuples(
        st.just("read"), st.sampled_from([*ACCOUNTS, "?"]), st.integers(1, 10), st.booleans()
    ),
    st.tuples(st.sampled_from(["lose", "reorder", "count", "flush"])),
    st.tuples(st.just("forget"), st.sampled_from(ACCOUNTS)),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows must reach what else only many do."""
    monkeypatch.setattr(store, "BUCKETS", 3)
    monkeypatch.setattr(store, "COPIED_AT_ONCE", 2)
    monkeypatch.setattr(keeper, "PORTION", 3)
    monkeypatch.setattr(keeper, "COMPARE_EVERY_S", 0.0)
    monkeypatch.setattr(keeper, "FEW_MOVES", 2)
    monkeypatch.setattr(leaderboard, "MOST_CHANGES", 3)
    monkeypatch.setattr(redis_boards, "PUSH_PAUSE_S", 0.0)


class Play:
    """One history on an empty board, and what it should have come to."""

    def __init__(self, lab: Lab, server: Server, names: dict[str, str], *all: Process) -> None:
        self.lab, self.server, self.names = lab, server, names
        self.plain, *self.processes = all
        self.rows: Rows = {}

    async def play(self, steps: list[Step]) -> None:
        self.rows = {}
        await self.lab.clear()
        self.server.client().flushall()
        for process in self.processes:
            assert process.cache is not None
            process.cache.answers = True
        for step in [*steps, ("read", "b", 10, False)]:
            await self.take(*step)

    async def take(self, what: str, *given: Any) -> None:
        if what == "write":
            account, score, listed = given
            self.rows[account] = (score, listed)
            await self.lab.write(account, score, listed)
        elif what == "forget":
            self.rows.pop(given[0], None)
            async with self.lab.database.connection() as connection, connection.transaction():
                await store.forget(connection, given[0])
        elif what == "settle":
            await self.lab.settle(self.processes[given[0]])
        elif what == "lose":
            await self.settle_alone()
        elif what == "reorder":
            mine = await self.settle_alone()
            await self.lab.settle(self.processes[1])
            cache = self.processes[0].cache
            if mine is not None and cache is not None:
                await cache.push("xp", *mine)
        elif what == "count":
            async with self.lab.database.connection() as connection:
                await store.count_again(connection, "xp", NOW_MS)
        elif what == "flush":
            self.server.client().flushall()
        else:
            await self.read(*given)

    async def settle_alone(self) -> store.Settled | None:
        """Settles a portion, as a process does that dies before it tells Redis."""
        async with self.lab.database.connection() as connection:
            return await store.settle(connection, "xp", 3, NOW_MS)

    async def read(self, caller: str, limit: int, around: bool) -> None:
        expected = oracle(self.rows, caller, limit, around)
        for process in (self.plain, *self.processes):
            answer = await process.board.read(caller, "xp", query(limit, around))
            assert seen(answer, self.names) == expected
            assert [one.me for one in answer.entries] == [
                account == caller for _, account, _ in expected["entries"]
            ]


@pytest.fixture(scope="module")
def play(lab: Lab, shared_server: Server, runner: asyncio.Runner) -> Play:
    async def make() -> Play:
        processes = [await lab.process(url) for url in (None, *[shared_server.url] * 2)]
        key = await lab.database.read(lambda one: store.secret(one, leaderboard.SECRET))
        names = {invented_name(account, key): account for account in ACCOUNTS}
        return Play(lab, shared_server, names, *processes)

    return runner.run(make())


@settings(
    max_examples=150,
    # Every example empties the same servers first; each asks three sources after every step.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=8, max_size=40))
@example(
    steps=[
        *[("write", account, 5, True) for account in ACCOUNTS],
        ("settle", 0),
        ("settle", 0),
        ("settle", 0),
        *[("read", account, limit, True) for account in ACCOUNTS for limit in (1, 3, 5)],
        ("write", "a", 6, True),
        ("write", "z", 5, False),
        *[("read", account, 10, False) for account in ACCOUNTS],
        *[("read", account, 5, True) for account in ACCOUNTS],
    ]
)
def test_redis_and_postgresql_and_the_oracle_agree(
    play: Play, runner: asyncio.Runner, steps: list[Step]
) -> None:
    """Ties, unlisted players, lost and late updates, counts and floods: never another answer."""
    before = Counter(play.processes[0].board.answered)
    runner.run(play.play(steps))
    after = Counter(play.processes[0].board.answered)
    event("redis answered" if after["redis"] > before["redis"] else "only postgresql answered")


def test_the_property_was_about_redis(play: Play) -> None:
    """Were every answer PostgreSQL's, agreement would say nothing."""
    for process in play.processes:
        assert process.board.answered["redis"] > 50
        assert process.board.answered["postgresql"] > 50
    assert play.plain.board.answered["redis"] == 0
