"""What a process keeps in memory, and what it has committed already, never changes an answer."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from app.clock import system_clock
from app.documents.model import Decision, Mutation
from app.documents.mutations import delete_mutation
from app.documents.pipeline import Pipeline
from app.documents.reader import Reader
from app.documents.submission import Submission
from app.documents.types import DeleteQuery, PatchDocument, PutDocument
from app.errors import Code, SynclineError
from tests.conftest import Cluster
from tests.sync.test_pipeline import INTAKE, held, plain, running

NOW_MS = system_clock()
LARGE = 10_000_000
CACHES = pytest.mark.parametrize("cache_bytes", [0, LARGE])


@pytest.fixture
def url(cluster_18: Cluster) -> str:
    return cluster_18.clone()


def put(key: str, value: Any, base: int | None, device: str = "", **more: Any) -> Mutation:
    named = {"device": device} if device else {}
    body = {"value": value, "base": base, **named, **more}
    decoded = msgspec.json.decode(msgspec.json.encode(body), type=PutDocument)
    return INTAKE.put(key, decoded, NOW_MS)


def patch(key: str, base: int | None, device: str = "", **more: Any) -> Mutation:
    named = {"device": device} if device else {}
    body = {"id": str(uuid4()), "base": base, **named, **more}
    decoded = msgspec.json.decode(msgspec.json.encode(body), type=PatchDocument)
    return INTAKE.patch(key, decoded, NOW_MS)


def delete(key: str, base: int | None, device: str, id: UUID) -> Mutation:
    return delete_mutation(key, DeleteQuery(base=base, device=device, id=id), NOW_MS)


def essence(decision: Decision) -> Any:
    """What is answered: outcome or problem, version, value."""
    document, problem = decision.document, decision.problem
    said = decision.outcome if problem is None else problem.code
    return said, document and (document.version, document.stored.value, document.epoch_version)


async def write(pipeline: Pipeline, mutation: Mutation, account: str = "a") -> Any:
    (decision,) = await pipeline.submit(Submission(account, [mutation]))
    said, document = essence(decision)
    return said, document and document[:2]


# --- what is committed is final ---------------------------------------------------------------


@asynccontextmanager
async def changed_and_held(url: str, account: str) -> AsyncIterator[asyncpg.Connection]:
    """Another process has written the account, and holds its head."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("update heads set tag = tag - 1 where account = $1", account)
        async with connection.transaction():
            await connection.fetch("select from heads where account = $1 for update", account)
            yield connection
    finally:
        await connection.close()


async def in_one_batch(
    pipeline: Pipeline, writes: Sequence[tuple[str, Mutation]]
) -> list[asyncio.Task[Any]]:
    """Submits these at once, so that they share a batch."""
    tasks = [asyncio.create_task(write(pipeline, one, account)) for account, one in writes]
    await asyncio.sleep(0)
    return tasks


async def test_a_late_part_that_is_stuck_changes_no_answer(url: str) -> None:
    """The other part was written and says so, not that its own write stands in its way."""
    async with running(plain(url), cache_bytes=LARGE) as pipeline:
        for account in "ab":
            await write(pipeline, put("notes", 1, 0), account)
        conditional = put("notes", 2, 1)
        conditional.if_match = 1
        async with changed_and_held(url, "b"):
            writes = [("a", conditional), ("b", put("notes", 2, 1))]
            fine, late = await in_one_batch(pipeline, writes)
            assert await fine == ("applied", (2, b"2"))
            with pytest.raises(SynclineError) as caught:
                await late
            assert caught.value.code is Code.DATABASE_UNAVAILABLE
        assert await held(url, "a", "notes") == (2, 2)
        assert await held(url, "b", "notes") == (1, 1)


async def test_a_late_part_that_loses_its_connection_changes_no_answer(url: str) -> None:
    """Nothing of what was committed is decided again as a duplicate, or as unchanged."""
    async with running(plain(url), cache_bytes=LARGE) as pipeline:
        for account in "ab":
            await write(pipeline, put("notes", 1, 0), account)
        writes = [
            ("a", patch("stats", None, set={"x": 1})),
            ("a", put("notes", 5, 1)),
            ("a", put("fresh", 5, 0)),
            ("b", put("notes", 2, 1)),
        ]
        async with changed_and_held(url, "b") as other:
            tasks = await in_one_batch(pipeline, writes)
            await asyncio.sleep(0.3)
            await other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where wait_event_type = 'Lock' and datname = current_database()"
            )
        assert [said for said, _ in await asyncio.gather(*tasks)] == ["applied"] * 4


# --- what is kept is what the database would say ------------------------------------------------


@CACHES
async def test_a_late_write_does_not_survive_the_devices_own_delete(
    url: str, cache_bytes: int
) -> None:
    async with running(plain(url)) as before:
        for version in range(5):
            await write(before, put("settings", {"a": version}, version, "d1"))
        await write(before, delete("settings", 5, "d1", uuid4()))
    async with running(plain(url), cache_bytes=cache_bytes) as pipeline:
        assert (await write(pipeline, patch("settings", 6, "d2", set={"b": 1})))[0] == "applied"
        late = await write(pipeline, put("settings", {"a": 99}, 3, "d1", id=str(uuid4())))
        assert late == ("superseded", (7, b'{"b":1}'))


@CACHES
async def test_a_repeated_delete_hides_nothing_that_the_device_proposed(
    url: str, cache_bytes: int
) -> None:
    """A copy of a store sends the delete of the original again; then it takes its own edit back."""
    deleted = uuid4()
    async with running(plain(url)) as before:
        await write(before, put("settings", {"theme": "light"}, 0, "d0"))
        await write(before, delete("settings", 1, "d1", deleted))
        await write(before, put("settings", {"theme": "light"}, 2, "d0"))
        await write(before, put("settings", {"theme": "dark"}, 3, "d2"))
    async with running(plain(url), cache_bytes=cache_bytes) as pipeline:
        await write(pipeline, delete("settings", 2, "d2", deleted))
        await write(pipeline, put("settings", {"theme": "dark", "x": 1}, 4, "d3"))
        undone = await write(pipeline, put("settings", {"theme": "light"}, 3, "d2"))
        assert undone == ("merged", (6, b'{"theme":"light","x":1}'))


@CACHES
async def test_a_repeated_write_hides_nothing_that_the_device_proposed(
    url: str, cache_bytes: int
) -> None:
    first = str(uuid4())
    async with running(plain(url), cache_bytes=cache_bytes) as pipeline:
        await write(pipeline, put("settings", {"theme": "light"}, 0, "d1", id=first))
        await write(pipeline, put("settings", {"theme": "dark"}, 1, "d2"))
        await write(pipeline, put("settings", {"theme": "light"}, 2, "d2", id=first))
        await write(pipeline, put("settings", {"theme": "dark", "x": 1}, 2, "d3"))
        undone = await write(pipeline, put("settings", {"theme": "light"}, 1, "d2"))
        assert undone == ("merged", (4, b'{"theme":"light","x":1}'))


@CACHES
async def test_a_revision_that_leaves_the_ring_hides_no_newer_proposal(
    url: str, cache_bytes: int
) -> None:
    """Two writes of a device on one base; the second made no version. Both have version 3."""

    def at(ms: int) -> dict[str, int]:
        return {"edited_at": NOW_MS - 100_000 + ms}

    async with running(plain(url), cache_bytes=cache_bytes, history=4) as pipeline:
        await write(pipeline, put("settings", {"a": 0, "b": 0}, 0, "d0", **at(1)))
        await write(pipeline, put("settings", {"a": 5, "b": 0}, 1, "d0", **at(500)))
        await write(pipeline, put("settings", {"a": 0, "b": 1}, 1, "d1", **at(100)))
        unseen = await write(pipeline, put("settings", {"a": 9, "b": 1}, 1, "d1", **at(200)))
        assert unseen[0] == "unchanged"
        for turn in range(5):
            value = {"a": 5, "b": 1, "c": turn}
            await write(pipeline, put("settings", value, 3 + turn, "d0", **at(600 + turn)))
        undone = await write(pipeline, put("settings", {"a": 0, "b": 1}, 1, "d1", **at(9_000)))
        assert undone == ("merged", (9, b'{"a":0,"b":1,"c":4}'))


VALUES: dict[str, Callable[[random.Random], Any]] = {
    "settings": lambda draw: {
        name: draw.choice(["x", "y", 0]) for name in draw.sample("abc", draw.randint(1, 3))
    },
    "user_stats": lambda draw: {"xp": draw.randint(0, 20), "level": draw.randint(0, 4)},
    "game_stats": lambda draw: {"score": draw.randint(0, 9), "games_played": draw.randint(0, 9)},
}


class Story:
    """Writes of a few devices on a few documents, some of them repeated or on odd bases."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.versions = dict.fromkeys(VALUES, 0)
        self.keys = self.draw.sample(list(VALUES), self.draw.randint(1, 2))
        self.past: list[Mutation] = []

    def next(self) -> Mutation:
        draw, key = self.draw, self.draw.choice(self.keys)
        version = self.versions[key]
        bases = [None, version, version, version, max(0, version - 1), draw.randint(0, version)]
        base, device = draw.choice(bases), draw.choice(["d1", "d2", "d3"])
        more: dict[str, Any] = {"edited_at": NOW_MS - draw.randint(1, 90_000)}
        id = UUID(int=draw.getrandbits(128), version=4)
        chance = draw.random()
        if self.past and chance < 0.15:
            mutation = draw.choice(self.past[-8:])
            mutation = replace(mutation, device=draw.choice(["d1", "d2", "d3"]), base=base)
        elif chance < 0.6:
            if draw.random() < 0.3:
                more["base_value"] = VALUES[key](draw)
            mutation = put(key, VALUES[key](draw), base, device, id=str(id), **more)
        elif chance < 0.88:
            counts = {"settings": "", "user_stats": "xp", "game_stats": "games_played"}[key]
            more |= {"delta": {counts: draw.randint(-3, 5)}} if counts else {"set": {"a": "z"}}
            if draw.random() < 0.1:
                more["operations"] = [{"op": "reset", "path": ""}]
            mutation = patch(key, base, device, **(more | {"id": str(id)}))
        else:
            mutation = delete(key, base, device, id)
        self.past.append(mutation)
        return mutation


async def test_any_story_ends_as_it_does_without_memory(url: str) -> None:
    """The same mutations to a process that keeps nothing, and to one or two that keep what they
    wrote and now and then forget it: every answer is the same."""
    async with (
        running(plain(url), history=4) as forgetful,
        running(plain(url), history=4, cache_bytes=LARGE) as first,
        running(plain(url), history=4, cache_bytes=LARGE) as second,
    ):
        answered = 0
        for seed in range(60):
            story = Story(seed)
            for _ in range(20):
                batch = [story.next() for _ in range(story.draw.choice([1, 1, 2, 3]))]
                if story.draw.random() < 0.15:
                    for pipeline in (first, second):
                        pipeline._cache.forget(f"kept-{seed}")
                chosen = second if seed % 3 == 0 and story.draw.random() < 0.5 else first
                expected = await forgetful.submit(Submission(f"none-{seed}", batch))
                found = await chosen.submit(Submission(f"kept-{seed}", batch))
                assert list(map(essence, found)) == list(map(essence, expected)), seed
                for mutation, decision in zip(batch, expected, strict=True):
                    if decision.document is not None:
                        story.versions[mutation.key] = decision.document.version
                answered += len(batch)
        assert answered > 1_500


# --- reads ------------------------------------------------------------------------------------


async def _ask(connection: Any, numbers: Sequence[int]) -> Sequence[int]:
    return [await connection.fetchval("select 10 / $1::int", number) for number in numbers]


async def test_a_bad_question_takes_no_other_with_it(url: str) -> None:
    reader: Reader[int, int] = Reader(plain(url), _ask, lanes=1, batch_limit=10, queue_limit=10)
    reader.start()
    tasks = [asyncio.create_task(reader.read(str(number), number)) for number in (1, 0, 5)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    await reader.stop()
    assert (answers[0], answers[2]) == (10, 2)
    assert isinstance(answers[1], asyncpg.DivisionByZeroError)


async def test_nobody_waits_for_a_reader_that_has_ended(url: str) -> None:
    reader: Reader[int, int] = Reader(plain(url), _ask, lanes=1, batch_limit=10, queue_limit=10)
    reader.start()
    await reader.stop()
    with pytest.raises(SynclineError) as caught:
        await reader.read("a", 1)
    assert caught.value.code is Code.SHUTTING_DOWN
