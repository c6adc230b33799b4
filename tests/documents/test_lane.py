"""Taking turns: what a lane makes a batch of."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from app.documents.lane import SHARE, Lane

LIMIT = 100


@dataclass(frozen=True)
class Job:
    account: str
    size: int
    number: int


def lane() -> Lane[Job]:
    async def serve(batch: list[Job]) -> None:
        raise AssertionError("nobody started it")

    return Lane(serve, lambda batch, error: None, LIMIT)


def batches_of(jobs: list[Job]) -> list[list[Job]]:
    """What waits all at once, batch by batch."""
    waiting, batches = lane(), []
    for job in jobs:
        waiting.add(job)
    left = len(jobs)
    while left:
        batches.append(waiting.take())
        assert batches[-1], "a batch took nothing although something waits"
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
    waiting.take()
    late = Job("late", 1, 1_000)
    waiting.add(late)
    assert late in waiting.take()


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "take", "set aside", "let go"]), st.sampled_from("abc")),
    max_size=60,
)


@given(STEPS)
def test_an_account_that_is_set_aside_is_not_taken_and_loses_nothing(
    steps: list[tuple[str, str]],
) -> None:
    """Whatever happens in between: once it is let go, all of it comes, in order."""
    waiting = lane()
    added: list[Job] = []
    taken: list[Job] = []
    aside: set[str] = set()
    for number, (step, account) in enumerate(steps):
        if step == "add":
            added.append(Job(account, 1, number))
            waiting.add(added[-1])
        elif step == "take":
            batch = waiting.take()
            assert not aside & {job.account for job in batch}
            taken += batch
        elif step == "set aside" and account not in aside:
            aside.add(account)
            waiting.set_aside(account)
        elif step == "let go" and account in aside:
            aside.remove(account)
            waiting.let_go(account)
    for account in aside:
        waiting.let_go(account)
    while batch := waiting.take():
        taken += batch
    assert Counter(taken) == Counter(added)
    for account in "abc":
        assert [job for job in taken if job.account == account] == [
            job for job in added if job.account == account
        ]


async def test_a_lane_survives_a_batch_that_fails() -> None:
    """Who asked is told, and the next batch is served."""
    served: list[int] = []
    failed: list[int] = []

    async def serve(batch: list[Job]) -> None:
        if batch[0].number == 0:
            raise RuntimeError("not this one")
        served.extend(job.number for job in batch)

    one: Lane[Job] = Lane(serve, lambda batch, _: failed.extend(job.number for job in batch), LIMIT)
    one.start()
    one.add(Job("a", 1, 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    one.add(Job("a", 1, 1))
    await one.stop()
    assert (failed, served) == ([0], [1])
