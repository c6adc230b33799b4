"""Whatever becomes of Redis, the answer is the same, and Redis recovers by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

from app.leaderboard import keeper, leaderboard, redis_boards, store
from app.leaderboard.names import invented_name
from app.leaderboard.weeks import week_board
from tests.conftest import Cluster
from tests.leaderboard.lab import NOW_MS, Lab, Process, Rows, Server, oracle, query, seen

ROWS: Rows = {f"p{number:02}": (number // 2 + 1, number % 7 != 0) for number in range(40)}
SCORES = sorted({score for score, _ in ROWS.values()})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "COMPARE_EVERY_S", 0.0)
    monkeypatch.setattr(redis_boards, "PUSH_PAUSE_S", 0.01)


class Scene:
    """A board of forty in PostgreSQL and in Redis, and a process that reads it."""

    def __init__(self, lab: Lab, server: Server, one: Process, other: Process) -> None:
        self.lab, self.server, self.one, self.other = lab, server, one, other
        self.rows = dict(ROWS)
        self.names: dict[str, str] = {}

    async def set_up(self) -> None:
        key = await self.lab.database.read(lambda one: store.secret(one, leaderboard.SECRET))
        names = [*ROWS, "extra", "new"]
        self.names = {invented_name(account, key): account for account in names}
        await self.lab.write_all(ROWS)
        await self.recover()

    async def write(self, account: str, score: int, listed: bool) -> None:
        self.rows[account] = (score, listed)
        await self.lab.write(account, score, listed)

    async def check(self) -> None:
        """All kinds of answers, and both processes, say what the oracle says."""
        for caller in ("p00", "p01", "p20", "p39", "nobody"):
            for limit, around in ((100, False), (3, False), (5, True)):
                expected = oracle(self.rows, caller, limit, around)
                for process in (self.one, self.other):
                    answer = await process.board.read(caller, "xp", query(limit, around))
                    assert seen(answer, self.names) == expected

    async def recover(self, *, rounds: int = 8) -> None:
        """Some rounds of both keepers; then Redis answers again, and rightly."""
        for _ in range(rounds):
            await self.lab.settle(self.one)
            await self.lab.settle(self.other)
        before = self.one.board.answered["redis"]
        await self.check()
        assert self.one.board.answered["redis"] > before


@pytest.fixture
async def scene(cluster_18: Cluster, server: Server) -> AsyncIterator[Scene]:
    lab = Lab(cluster_18.clone())
    made = Scene(lab, server, await lab.process(server.url), await lab.process(server.url))
    await made.set_up()
    yield made
    await lab.close()


async def test_killed_and_started_empty(scene: Scene) -> None:
    """After a restart PING works and there is nothing: an empty board must not be believed."""
    scene.server.kill()
    await scene.check()
    await scene.write("p05", 500, True)
    await scene.lab.settle(scene.one)
    await scene.check()
    scene.server.start_empty()
    await scene.check()
    await scene.recover()


async def test_hung(scene: Scene) -> None:
    """One request waits for half a second, the others for nothing; what changed is not lost."""
    scene.server.freeze()
    await scene.check()
    assert scene.one.cache is not None
    assert not scene.one.cache.answers
    await scene.write("p05", 500, True)
    await scene.write("p06", 499, False)
    await scene.lab.settle(scene.one)
    await scene.check()
    scene.server.thaw()
    await scene.recover()


async def test_only_who_looks_for_it_waits_for_what_hangs(scene: Scene) -> None:
    """It is looked for each second or two; if requests were let through meanwhile, every second
    one would wait for as long as Redis hangs."""
    cache = scene.one.cache
    assert cache is not None
    scene.server.freeze()
    await scene.check()
    looking = asyncio.create_task(cache.look())
    for _ in range(20):
        await asyncio.sleep(0.005)
        assert looking.done() or not cache.answers
    assert not await looking
    scene.server.thaw()
    assert await cache.look()
    assert cache.answers


def _flush(server: Server) -> None:
    server.client().flushall()


def _lose_the_set(server: Server) -> None:
    server.client().delete(server.set_of("xp"))


def _turn_the_set_into_text(server: Server) -> None:
    server.client().set(server.set_of("xp"), "text")


def _turn_the_board_into_text(server: Server) -> None:
    (meta,) = server.client().keys("*{xp}:board")
    server.client().set(meta, "text")


def _lose_a_field(server: Server) -> None:
    (meta,) = server.client().keys("*{xp}:board")
    server.client().hdel(meta, "set")


def _add_one_at_the_top(server: Server) -> None:
    server.client().zadd(server.set_of("xp"), {"extra": 1000})


def _add_one_below(server: Server) -> None:
    server.client().zadd(server.set_of("xp"), {"extra": 1})


def _swap_one(server: Server) -> None:
    server.client().zrem(server.set_of("xp"), "p39")
    server.client().zadd(server.set_of("xp"), {"extra": 1000})


def _swap_one_for_what_cannot_be(server: Server) -> None:
    server.client().zrem(server.set_of("xp"), "p39")
    server.client().zadd(server.set_of("xp"), {"\0": 1000})


def _halve_a_score(server: Server) -> None:
    server.client().zadd(server.set_of("xp"), {"p39": 0.5})


def _lift_a_score(server: Server) -> None:
    server.client().zadd(server.set_of("xp"), {"p01": 999})


def _lift_to_infinity(server: Server) -> None:
    server.client().zadd(server.set_of("xp"), {"p01": float("inf")})


@pytest.mark.parametrize(
    "harm",
    [
        _flush, _lose_the_set, _turn_the_set_into_text, _turn_the_board_into_text, _lose_a_field,
        _add_one_at_the_top, _add_one_below, _swap_one, _swap_one_for_what_cannot_be,
        _halve_a_score, _lift_a_score, _lift_to_infinity,
    ],
)  # fmt: skip
async def test_wrong_data(scene: Scene, harm: Callable[[Server], None]) -> None:
    """Somebody changes Redis by hand: it is found out before it is believed, and built anew."""
    harm(scene.server)
    await scene.check()
    await scene.recover()


async def test_a_hidden_change_is_found_by_counting(scene: Scene) -> None:
    """A score that is changed far below what is shown shifts ranks, and nobody looks at it.

    This is what comparing the counts is for, once a minute; until then the rank may be off.
    """
    scene.server.client().zadd(scene.server.set_of("xp"), {"p03": SCORES[-1]})
    await scene.recover()


async def test_old_data_comes_back(scene: Scene) -> None:
    """A Redis that is restored, or a replica that takes over, has an earlier board whole."""
    client = scene.server.client()
    saved = {key: client.dump(key) for key in _raw(scene.server).keys("*")}
    for account in ("p10", "p20", "p30"):
        await scene.write(account, 700, True)
    await scene.write("p39", 900, False)
    await scene.recover()
    raw = _raw(scene.server)
    raw.flushall()
    for key, content in saved.items():
        raw.restore(key, 0, content)
    await scene.check()
    await scene.recover()


def _raw(server: Server) -> Any:
    """A client that leaves bytes as they are."""
    return redis.Redis(port=server.port)


async def test_the_database_is_restored(scene: Scene) -> None:
    """Redis is then ahead of the truth: what it has seen never happened."""
    await scene.lab.execute("create table kept as select * from standings")
    await scene.lab.execute("create table kept_boards as select * from boards")
    before = dict(scene.rows)
    await scene.write("p10", 900, True)
    await scene.write("p39", 900, False)
    await scene.recover()
    await scene.lab.execute("truncate boards, standings")
    await scene.lab.execute("insert into standings select * from kept")
    await scene.lab.execute("insert into boards select * from kept_boards")
    scene.rows = before
    await scene.check()
    await scene.recover()


async def test_leaving_the_boards_is_seen_by_all_processes_at_once(scene: Scene) -> None:
    """No process has settled it, and Redis still has it: the next answer must not."""
    best = max(ROWS, key=lambda account: (ROWS[account][1], ROWS[account][0], account))
    answered = scene.other.board.answered["redis"]
    await scene.write(best, ROWS[best][0], False)
    await scene.check()
    assert scene.other.board.answered["redis"] > answered
    assert scene.server.client().zscore(scene.server.set_of("xp"), best) == ROWS[best][0]
    await scene.recover()
    assert scene.server.client().zscore(scene.server.set_of("xp"), best) is None


async def test_a_process_dies_between_its_commit_and_redis(scene: Scene) -> None:
    """The update is lost to Redis; no later one may be put on top of it as if it were there."""
    await scene.write("p10", 900, True)
    async with scene.lab.database.connection() as connection:
        assert await store.settle(connection, "xp", 500, NOW_MS) is not None
    await scene.check()
    await scene.write("p11", 901, True)
    await scene.recover()


async def test_redis_goes_on_from_the_tag_of_an_update_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is lost of a board shifts ranks far from it, where nobody looks: the tag must tell."""
    monkeypatch.setattr(keeper, "COMPARE_EVERY_S", 1e9)
    await scene.recover()
    assert scene.one.cache is not None
    tag = await scene.one.cache.tag("xp")
    await scene.write("p03", 15, True)
    async with scene.lab.database.connection() as connection:
        lost = await store.settle(connection, "xp", 500, NOW_MS)
    assert lost is not None
    assert lost.old_tag == tag
    await scene.write("p11", 1, True)
    async with scene.lab.database.connection() as connection:
        late = await store.settle(connection, "xp", 500, NOW_MS)
    assert late is not None
    assert not await scene.one.cache.push("xp", *late)
    assert await scene.one.cache.tag("xp") == tag
    await scene.check()
    assert await scene.one.cache.push("xp", *lost)
    await scene.check()
    assert await scene.one.cache.push("xp", *late)
    before = scene.one.board.answered["redis"]
    await scene.check()
    assert scene.one.board.answered["redis"] > before


async def test_only_one_process_builds(scene: Scene) -> None:
    """Two that built at once would copy a million rows twice."""
    scene.server.client().flushall()
    assert scene.one.cache is not None
    name = await scene.one.cache.begin("xp")
    assert name is not None
    assert scene.other.cache is not None
    assert await scene.other.cache.begin("xp") is None
    await scene.lab.settle(scene.other)
    assert scene.server.client().keys("*{xp}:board") == []
    await scene.one.cache.give_up("xp", name)
    await scene.recover()


async def test_a_builder_dies(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock expires, what it built is never shown, and another builds the board."""
    monkeypatch.setattr(redis_boards, "BUILD_LOCK_MS", 50)
    monkeypatch.setattr(redis_boards, "UNFINISHED_MS", 200)
    scene.server.client().flushall()

    async def half() -> AsyncIterator[list[tuple[str, int]]]:
        yield [("p01", 1), ("extra", 5)]

    assert scene.one.cache is not None
    name = await scene.one.cache.begin("xp")
    assert name is not None
    await scene.one.cache.fill("xp", name, half())
    await scene.check()
    await asyncio.sleep(0.3)
    assert not await scene.one.cache.finish("xp", name, 1, NOW_MS, lives=True)
    assert scene.server.client().keys("*") == []
    await scene.recover()


async def test_building_while_scores_change(scene: Scene) -> None:
    """What changes while a board is built is in every answer meanwhile, and after it."""

    async def change() -> None:
        for number in range(30):
            await scene.write(f"p{number:02}", 100 + number, number % 5 != 0)
            await scene.lab.settle(scene.other)
            await scene.check()

    await asyncio.gather(change(), *(scene.one.keeper.rebuild() for _ in range(3)))
    await scene.recover()


async def test_rebuilding_mends_wrong_counts(scene: Scene) -> None:
    """Rows that somebody deleted by hand are still counted, until the board is counted anew."""
    await scene.lab.execute("delete from standings where account = 'p39'")
    del scene.rows["p39"]
    boards = await scene.one.keeper.rebuild()
    assert [(one.board, one.cached) for one in boards] == [("xp", True)]
    assert boards[0].accounts == sum(listed for _, listed in scene.rows.values())
    await scene.check()
    assert scene.server.client().zscore(scene.server.set_of("xp"), "p39") is None


async def test_scores_that_redis_cannot_hold(scene: Scene) -> None:
    """A double holds 53 bits; a board with a greater score stays in PostgreSQL."""
    await scene.write("p39", 2**53, True)
    await scene.write("p38", 2**53 + 1, True)
    for _ in range(3):
        await scene.lab.settle(scene.one)
    await scene.check()
    assert scene.server.client().keys("*{xp}:board") == []
    await scene.write("p39", 5, True)
    await scene.write("p38", 5, True)
    await scene.recover()


async def test_the_board_of_the_week_goes_on_to_the_next(scene: Scene) -> None:
    """On Monday another board is this week's; last week's is then PostgreSQL's alone."""
    week = week_board(NOW_MS)
    await scene.lab.write("p01", 5, True, week)
    await scene.recover()
    assert (await scene.one.board.read("p01", "xp:week", query(10, False))).me.rank == 1
    assert 0 < scene.server.client().pttl(scene.server.set_of(week)) <= redis_boards.BOARD_LIVES_MS
    scene.lab.clock.now += 7 * 86_400_000
    answer = await scene.one.board.read("p01", "xp:week", query(10, False))
    assert (answer.entries, answer.me.score) == ([], 0)
    assert (await scene.one.board.read("p01", week, query(10, False))).me.rank == 1


async def test_old_weeks_are_pruned(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row a player and a week for ever would outgrow everything else."""
    scene.lab.monotonic.now += keeper.TEND_EVERY_S
    monkeypatch.setattr(keeper, "PRUNE_PORTION", 2)
    old, kept = week_board(NOW_MS, 13), week_board(NOW_MS, 12)
    for board in (old, kept):
        for number in range(5):
            await scene.lab.write(f"p{number}", 5, number > 0, board)
    await scene.lab.settle(scene.one)
    async with scene.lab.database.connection() as connection:
        rows = await connection.fetch("select board, count(*) from standings group by board")
        boards = await store.list_boards(connection)
    assert dict(rows) == {"xp": len(ROWS), kept: 5}
    assert sorted(boards) == sorted(["xp", kept])


async def test_the_secret_is_made_once(cluster_18: Cluster) -> None:
    """Processes that start at once must not invent two names for one player."""
    lab = Lab(cluster_18.clone())

    async def ask() -> bytes:
        return await lab.database.read(lambda one: store.secret(one, "s"))

    found = await asyncio.gather(*(ask() for _ in range(8)))
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    await lab.close()
