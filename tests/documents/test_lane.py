"""Taking turns: what a lane makes a batch of."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.lane import SHARE, SLOW_S, Lane

LIMIT = 100


@dataclass(frozen=True)
class Job:
    account: str
    size: int
    number: int


def lane() -> Lane[Job]:
    """One that is not started: batches are taken by hand."""
    return Lane([], lambda batch, error: None, LIMIT)


def batches_of(jobs: list[Job]) -> list[list[Job]]:
    """What waits all at once, batch by batch."""
    waiting, batches = lane(), []
    for job in jobs:
        waiting.add(job)
    left = len(jobs)
    while left:
        batches.append(waiting.take())
        assert batches[-1], "a batch took nothing although something waits"
        waiting.end(batches[-1])
        left -= len(batches[-1])
    return batches


JOBS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 130)), max_size=60).map(
    lambda given: [Job(account, size, number) for number, (account, size) in enumerate(given)]
)


@given(JOBS)
def test_everything_is_taken_once_and_each_account_in_order(jobs: list[Job]) -> None:
    taken = [job for batch in batches_of(jobs) for job in batch]
    assert Counter(taken) == Counter(jobs)
    for account in "abcd":
        numbers = [job.number for job in taken if job.account == account]
        assert numbers == sorted(numbers)


@given(JOBS)
def test_a_batch_has_a_limit_and_accounts_have_shares(jobs: list[Job]) -> None:
    """One work may be larger than the limit: then it goes alone. While others wait, an account
    has its share and no more; again, one work may be larger."""
    left = list(jobs)
    for batch in batches_of(jobs):
        assert len(batch) == 1 or sum(job.size for job in batch) <= LIMIT
        several = len({job.account for job in left}) > 1
        for account in {job.account for job in batch}:
            sizes = [job.size for job in batch if job.account == account]
            assert not several or len(sizes) == 1 or sum(sizes) <= SHARE
        left = [job for job in left if job not in batch]


@given(st.integers(1, 500), st.integers(1, 20))
def test_a_flood_makes_nobody_wait_for_more_than_its_share(flood: int, others: int) -> None:
    jobs = [Job("flood", 1, number) for number in range(flood)]
    jobs += [Job(f"other-{number}", 1, flood + number) for number in range(others)]
    first = batches_of(jobs)[0]
    assert {job.account for job in jobs} == {job.account for job in first}
    assert len(first) <= SHARE + others


def test_who_comes_late_is_in_the_next_batch_though_a_flood_waits() -> None:
    waiting = lane()
    for number in range(1_000):
        waiting.add(Job("flood", 1, number))
    waiting.end(waiting.take())
    late = Job("late", 1, 1_000)
    waiting.add(late)
    assert late in waiting.take()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "take", "end", "set aside", "let go"]),
        st.sampled_from("abc"),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_account_is_in_two_batches_nor_taken_while_set_aside_and_nothing_is_lost(
    steps: list[tuple[str, str]],
) -> None:
    """Whatever happens in between: once all ended and are let go, all of it came, in order."""
    waiting = lane()
    added: list[Job] = []
    taken: list[Job] = []
    under_way: list[list[Job]] = []
    aside: set[str] = set()
    for number, (step, account) in enumerate(steps):
        if step == "add":
            added.append(Job(account, 1, number))
            waiting.add(added[-1])
        elif step == "take":
            batch = waiting.take()
            accounts = {job.account for job in batch}
            assert not aside & accounts
            assert not accounts & {job.account for other in under_way for job in other}
            under_way.append(batch)
            taken += batch
        elif step == "end" and under_way:
            waiting.end(under_way.pop(0))
        elif step == "set aside" and account not in aside:
            aside.add(account)
            waiting.set_aside(account)
        elif step == "let go" and account in aside:
            # As the service does: who is set aside is let go after its batch has ended.
            while any(job.account == account for batch in under_way for job in batch):
                waiting.end(under_way.pop(0))
            aside.remove(account)
            waiting.let_go(account)
    for batch in under_way:
        waiting.end(batch)
    for account in aside:
        waiting.let_go(account)
    while batch := waiting.take():
        taken += batch
        waiting.end(batch)
    assert Counter(taken) == Counter(added)
    for account in "abc":
        assert [job for job in taken if job.account == account] == [
            job for job in added if job.account == account
        ]


class Serving:
    """Two at once, each of which is under way until it is told to end."""

    def __init__(self, worth: int = 1, long: int = 1) -> None:
        self.batches: list[list[Job]] = []
        self._go_on = [asyncio.Event() for _ in range(10)]
        servers = [partial(self._serve), partial(self._serve)]
        self.lane: Lane[Job] = Lane(servers, lambda *_: None, LIMIT, worth, long)
        self.lane.start()

    async def _serve(self, batch: list[Job]) -> None:
        self.batches.append(batch)
        await self._go_on[len(self.batches) - 1].wait()

    async def add(self, *jobs: Job) -> None:
        for job in jobs:
            self.lane.add(job)
        await settle()

    async def end(self, batch: int) -> None:
        self._go_on[batch].set()
        await settle()

    async def stop(self) -> None:
        for event in self._go_on:
            event.set()
        await self.lane.stop()

    @property
    def numbers(self) -> list[list[int]]:
        return [[job.number for job in batch] for batch in self.batches]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_second_batch_is_begun_once_it_is_worth_it() -> None:
    serving = Serving(worth=3, long=3)
    await serving.add(Job("a", 1, 0))
    await serving.add(Job("b", 1, 1), Job("c", 1, 2))
    assert serving.numbers == [[0]]  # two are too few to commit beside another
    await serving.add(Job("d", 1, 3))
    assert serving.numbers == [[0], [1, 2, 3]]
    await serving.stop()


async def test_nobody_waits_for_a_long_batch() -> None:
    serving = Serving(worth=3, long=3)
    await serving.add(Job("flood", 3, 0))
    await serving.add(Job("b", 1, 1))
    assert serving.numbers == [[0], [1]]
    await serving.stop()


@pytest.mark.parametrize("first", ["ends", "hangs"])
async def test_what_is_held_back_waits_for_no_more_than_the_first_batch(first: str) -> None:
    """And not for that if it hangs, though nothing else comes that would wake anybody."""
    serving = Serving(worth=3, long=3)
    await serving.add(Job("a", 1, 0))
    await serving.add(Job("b", 1, 1))
    assert serving.numbers == [[0]]
    if first == "ends":
        await serving.end(0)
    else:
        await asyncio.sleep(3 * SLOW_S)
        await settle()
    assert serving.numbers == [[0], [1]]
    await serving.stop()


async def test_of_two_floods_none_has_a_batch_for_itself() -> None:
    """Else a third account would wait for two whole batches."""
    serving = Serving()
    await serving.add(*(Job("flood", 1, number) for number in range(LIMIT)))
    await serving.add(*(Job("other", 1, number) for number in range(LIMIT)))
    assert [len(batch) for batch in serving.batches] == [LIMIT, SHARE]
    await serving.stop()


async def test_an_account_waits_while_it_is_served_and_others_do_not() -> None:
    serving = Serving()
    await serving.add(Job("a", 1, 0))
    await serving.add(Job("a", 1, 1), Job("b", 1, 2))
    assert serving.numbers == [[0], [2]]
    await serving.end(0)
    assert serving.numbers == [[0], [2], [1]]
    await serving.stop()


async def test_what_one_batch_leaves_is_begun_beside_it() -> None:
    """Nobody has to ask anew for the rest."""
    serving = Serving()
    await serving.add(Job("a", LIMIT, 0), Job("b", LIMIT, 1))
    assert serving.numbers == [[0], [1]]
    await serving.stop()


async def test_a_stop_waits_for_all_that_is_served_and_for_what_waits_behind() -> None:
    serving = Serving()
    await serving.add(Job("a", 1, 0))
    await serving.add(Job("a", 1, 1))
    stopping = asyncio.create_task(serving.lane.stop())
    await settle()
    assert not stopping.done()
    await serving.end(0)
    assert serving.numbers == [[0], [1]]
    assert not stopping.done()
    await serving.end(1)
    assert stopping.done()


async def test_a_lane_survives_a_batch_that_fails() -> None:
    """Who asked is told, and the next batch is served."""
    served: list[int] = []
    failed: list[int] = []

    async def serve(batch: list[Job]) -> None:
        if batch[0].number == 0:
            raise RuntimeError("not this one")
        served.extend(job.number for job in batch)

    one: Lane[Job] = Lane(
        [serve], lambda batch, _: failed.extend(job.number for job in batch), LIMIT
    )
    one.start()
    one.add(Job("a", 1, 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    one.add(Job("a", 1, 1))
    await one.stop()
    assert (failed, served) == ([0], [1])
