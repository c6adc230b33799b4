"""Nobody waits for an account that another session holds, and it loses nothing meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from app.database import engine
from app.database.engine import KeptConnection
from app.documents.parking import Parking
from app.documents.pipeline import Pipeline
from app.documents.submission import Submission
from app.errors import Code, SynclineError
from tests.conftest import Cluster
from tests.sync.database import REFUSE_POISON
from tests.sync.test_kept_in_memory import LARGE, changed_and_held, put
from tests.sync.test_pipeline import add, held, locked, plain, running

OTHERS = [f"other-{number}" for number in range(20)]


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.clone()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to give up."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 60_000)


@asynccontextmanager
async def holding(url: str, *statements: str) -> AsyncIterator[None]:
    """A session that leaves its transaction open after these."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            for statement in statements:
                await connection.execute(statement)
            yield
    finally:
        await connection.close()


def write(pipeline: Pipeline, account: str, amount: int = 1) -> asyncio.Task[Any]:
    return asyncio.create_task(pipeline.submit(Submission(account, [add(amount)])))


async def until_parked(pipeline: Pipeline, accounts: int) -> None:
    async with asyncio.timeout(60):
        while pipeline.parked != accounts:  # noqa: ASYNC110 - a count tells nobody
            await asyncio.sleep(0.005)


def outcomes(answers: Sequence[Any]) -> list[str]:
    return [decision.outcome for answer in answers for decision in answer]


def versions(answers: Sequence[Any]) -> list[int]:
    return [decision.document.version for answer in answers for decision in answer]


HOLDERS: dict[str, Callable[[str, str], AbstractAsyncContextManager[Any]]] = {
    "a head, met by the write itself": locked,
    "a head that was changed, met by the lock": changed_and_held,
    "a document": lambda url, account: holding(
        url, f"select from documents where account = '{account}' for update"
    ),
}


@pytest.mark.parametrize("holder", list(HOLDERS))
async def test_the_others_of_the_lane_go_on(url: str, holder: str) -> None:
    """They are answered while one account is held, in the same batch and in later ones. Its own
    writes, those that came while it was held included, go through in order once it is let go."""
    async with running(plain(url), cache_bytes=LARGE) as pipeline:
        await asyncio.gather(*(write(pipeline, one) for one in ["held", *OTHERS]))
        async with HOLDERS[holder](url, "held"):
            own = [write(pipeline, "held") for _ in range(3)]
            answers = await asyncio.gather(*(write(pipeline, one) for one in OTHERS))
            assert outcomes(answers) == ["applied"] * len(OTHERS)
            await until_parked(pipeline, 1)
            own += [write(pipeline, "held") for _ in range(3)]
            answers = await asyncio.gather(*(write(pipeline, one) for one in OTHERS))
            assert outcomes(answers) == ["applied"] * len(OTHERS)
            assert not any(task.done() for task in own)
        assert versions(await asyncio.gather(*own)) == [2, 3, 4, 5, 6, 7]
        assert pipeline.parked == 0
    assert await held(url, "held") == (7, {"xp": 7})


async def test_each_of_many_goes_on_when_it_is_let_go(url: str) -> None:
    """Those that are held longer are not waited for, however many they are."""
    names = [f"held-{number}" for number in range(9)]
    async with running(plain(url), lanes=2) as pipeline, AsyncExitStack() as stack:
        await asyncio.gather(*(write(pipeline, name) for name in names))
        holds = {}
        for name in names:
            holds[name] = await stack.enter_async_context(AsyncExitStack())
            await holds[name].enter_async_context(locked(url, name))
        tasks = {name: write(pipeline, name) for name in names}
        await until_parked(pipeline, len(names))
        for name in reversed(names):
            await holds[name].aclose()
            assert outcomes([await tasks.pop(name)]) == ["applied"]
            assert not any(task.done() for task in tasks.values())


async def test_who_stands_behind_two_whose_documents_are_held_goes_on(url: str) -> None:
    """After two of them a whole table might be locked, so the rest waits; but not for ever."""
    names = ["held-1", "held-2", *OTHERS]
    async with running(plain(url)) as pipeline:
        await asyncio.gather(*(write(pipeline, name) for name in names))
        condition = "account in ('held-1', 'held-2')"
        async with holding(url, f"select from documents where {condition} for update"):
            tasks = [write(pipeline, name) for name in names]
            assert versions(await asyncio.gather(*tasks[2:])) == [2] * len(OTHERS)
            assert not any(task.done() for task in tasks[:2])
        assert versions(await asyncio.gather(*tasks[:2])) == [2, 2]


async def test_an_account_that_is_being_made_elsewhere_is_held_as_well(url: str) -> None:
    """Its head is not to be seen yet, and an insert waits for it."""
    async with running(plain(url)) as pipeline:
        async with holding(url, "insert into heads (account, seq) values ('new', 0)"):
            new = write(pipeline, "new")
            await asyncio.gather(*(write(pipeline, one) for one in OTHERS))
            assert not new.done()
        assert outcomes([await new]) == ["applied"]


@pytest.mark.parametrize("table", ["heads", "documents", "revisions"])
async def test_a_locked_table_is_waited_for(url: str, table: str) -> None:
    """As for a change of the tables, which takes a moment: nobody is refused because of it."""
    async with running(plain(url)) as pipeline:
        await asyncio.gather(*(write(pipeline, one) for one in OTHERS))
        async with holding(url, f"lock table {table} in access exclusive mode"):
            tasks = [write(pipeline, one) for one in OTHERS]
            await until_parked(pipeline, len(OTHERS))
            late = write(pipeline, OTHERS[0])
        assert versions(await asyncio.gather(*tasks, late)) == [2] * len(OTHERS) + [3]


async def test_who_is_held_too_long_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 for what waited, and nothing of it is written afterwards; the account is as good as any
    other once it is let go."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 200)
    async with running(plain(url)) as pipeline:
        async with locked(url, "held"):
            tasks = [write(pipeline, "held", 10), write(pipeline, "other")]
            await until_parked(pipeline, 1)
            tasks.append(write(pipeline, "held", 100))
            first, other, behind = await asyncio.gather(*tasks, return_exceptions=True)
            assert outcomes([other]) == ["applied"]
            for refused in (first, behind):
                assert isinstance(refused, SynclineError)
                assert refused.code is Code.DATABASE_UNAVAILABLE
        assert outcomes([await write(pipeline, "held")]) == ["applied"]
        assert pipeline.parked == 0
    assert await held(url, "held") == (1, {"xp": 1})


async def test_what_stands_behind_is_refused_with_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share after the other would each wait as long, and find out the same."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 300)
    parked: list[int] = []
    add_parked = Parking.add

    def note(self: Parking, batch: Sequence[Submission]) -> None:
        parked.append(len(batch))
        add_parked(self, batch)

    monkeypatch.setattr(Parking, "add", note)
    async with running(plain(url), queue_limit=1_000) as pipeline:
        async with locked(url, "held"):
            tasks = [write(pipeline, "held")]
            await until_parked(pipeline, 1)
            tasks += [write(pipeline, "held") for _ in range(200)]
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            codes = {getattr(answer, "code", None) for answer in answers}
            assert codes == {Code.DATABASE_UNAVAILABLE}
        assert parked == [1]
        assert pipeline.waiting == 0
        assert versions([await write(pipeline, "held")]) == [1]


async def test_what_is_parked_counts_towards_what_may_wait(url: str) -> None:
    """Else a table that is locked would let everything in."""
    async with running(plain(url), queue_limit=len(OTHERS)) as pipeline:
        await write(pipeline, OTHERS[0])
        async with holding(url, "lock table heads in access exclusive mode"):
            tasks = [write(pipeline, name) for name in OTHERS]
            await until_parked(pipeline, len(OTHERS))
            with pytest.raises(SynclineError) as caught:
                await write(pipeline, "one more")
            assert caught.value.code is Code.OVERLOADED
        assert outcomes(await asyncio.gather(*tasks)) == ["applied"] * len(OTHERS)
        assert outcomes([await write(pipeline, "one more")]) == ["applied"]


@pytest.mark.parametrize("lets_go", [True, False])
async def test_a_stop_answers_what_is_parked(
    url: str, lets_go: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not lets_go:
        monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 200)
    async with running(plain(url)) as pipeline, AsyncExitStack() as hold:
        await hold.enter_async_context(locked(url, "held"))
        tasks = [write(pipeline, "held")]
        await until_parked(pipeline, 1)
        tasks.append(write(pipeline, "held"))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(pipeline.stop())
        if lets_go:
            await hold.aclose()
        await stopping
        assert all(task.done() for task in tasks)
        failures = [task.exception() for task in tasks]
        assert [failure is None for failure in failures] == [lets_go] * 2
    assert (await held(url, "held"))[0] == (2 if lets_go else 0)


async def test_two_processes_wait_for_the_same_account(url: str) -> None:
    """And for each other's batches: nothing is lost, counted twice, or waits for ever."""
    async with running(plain(url)) as one, running(plain(url)) as other:
        async with locked(url, "held"):
            own = [write(pipeline, "held") for pipeline in (one, other) for _ in range(5)]
            for pipeline in (one, other):
                await asyncio.gather(*(write(pipeline, name) for name in OTHERS))
                await until_parked(pipeline, 1)
        assert sorted(versions(await asyncio.gather(*own))) == list(range(1, 11))
        crossing = [
            write(pipeline, name)
            for _ in range(5)
            for pipeline, names in ((one, OTHERS), (other, OTHERS[::-1]))
            for name in names
        ]
        assert outcomes(await asyncio.gather(*crossing)) == ["applied"] * len(crossing)
    for name in OTHERS:
        assert await held(url, name) == (12, {"xp": 12})


async def test_a_bad_mutation_beside_a_held_account(url: str) -> None:
    """Then submissions are tried one by one, and those behind a held one stay behind it."""
    connection = await asyncpg.connect(url)
    await connection.execute(REFUSE_POISON)
    await connection.close()
    async with running(plain(url)) as pipeline:
        await write(pipeline, "held")
        async with HOLDERS["a document"](url, "held"):
            first = write(pipeline, "bad")
            await asyncio.sleep(0)
            bad = asyncio.create_task(pipeline.submit(Submission("bad", [add(1, "poison")])))
            own = [write(pipeline, "held") for _ in range(3)]
            other = write(pipeline, "other")
            assert outcomes([await first, await other]) == ["applied"] * 2
            with pytest.raises(SynclineError) as caught:
                await bad
            assert caught.value.code is Code.INTERNAL
        assert versions(await asyncio.gather(*own)) == [2, 3, 4]


class _Raises:
    """Stands for a fault of the code that commits."""

    async def __call__(
        self, connection: KeptConnection, batch: Sequence[Submission]
    ) -> Sequence[Submission]:
        raise RuntimeError("a fault")


async def test_a_fault_sets_no_account_aside_for_ever(url: str) -> None:
    """What waited is told, and its lane has it back."""
    let_go: list[str] = []

    def fail(batch: Sequence[Submission], error: SynclineError) -> None:
        for submission in batch:
            submission.answer.set_result(error)

    database = plain(url)
    parking = Parking(database, _Raises(), fail, lambda name, _: let_go.append(name), 100)
    submissions = [Submission(name, [put("notes", 1, 0)]) for name in "ab"]
    for submission in submissions:
        submission.answer = asyncio.get_running_loop().create_future()
    parking.add(submissions)
    answers = await asyncio.gather(*(one.answer for one in submissions))
    assert [getattr(answer, "code", None) for answer in answers] == [Code.INTERNAL] * 2
    assert let_go == ["a", "b"]
    assert (parking.accounts, parking.size) == (0, 0)
    await parking.close()
    await database.close()
