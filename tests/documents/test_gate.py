"""What of one account is worked on at once: bounded, in order, and nothing is forgotten."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.database import engine
from app.database.engine import unavailable
from app.documents import gate as gates
from app.documents.gate import AT_WORK, REQUEST, WAITING_OF_ONE, Gate
from app.errors import Code, SynclineError
from tests.conftest import Service
from tests.live.talk import talking
from tests.operations.test_metrics import scrape, value
from tests.sync.test_pipeline import Block, block

__all__ = ["block"]


class Requests:
    """Requests that pass a gate; a test says when each is done."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.entered: list[tuple[str, int]] = []
        self.at_work: dict[int, tuple[str, int]] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.ends: dict[int, asyncio.Future[None]] = {}

    async def ask(self, number: int, account: str, size: int) -> None:
        """A request that counts `size`, until it is at work, or waits."""
        self.ends[number] = asyncio.get_running_loop().create_future()
        self.tasks[number] = asyncio.create_task(self._pass(number, account, size))
        await settle()

    async def _pass(self, number: int, account: str, size: int) -> None:
        async with self.gate.passing(account, size - REQUEST):
            self.entered.append((account, number))
            self.at_work[number] = (account, size)
            try:
                await self.ends[number]
            finally:
                del self.at_work[number]

    def waits(self, number: int) -> bool:
        return number not in self.at_work and not self.tasks[number].done()

    async def end(self, number: int, error: Exception | None = None) -> None:
        if error is None:
            self.ends[number].set_result(None)
        else:
            self.ends[number].set_exception(error)
        await settle()

    async def end_all(self) -> None:
        while self.at_work:
            await self.end(next(iter(self.at_work)))

    def sizes(self, account: str) -> list[int]:
        return [size for name, size in self.at_work.values() if name == account]


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def nothing_is_left(gate: Gate) -> bool:
    return not (gate._at_work or gate._lines or gate.waiting)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask"] * 4
            + ["end", "cancel", "fail"]
            + ["end, cancel next", "fail, cancel next", "cancel at its turn"]
        ),
        st.sampled_from("ab"),
        st.sampled_from([REQUEST, AT_WORK // 3, AT_WORK // 2, AT_WORK, 3 * AT_WORK]),
        st.integers(0, 9),
    ),
    max_size=40,
)


THREE = [("ask", "a", AT_WORK, 0)] * 3
SMALL_BEHIND_LARGE = [
    ("ask", "a", AT_WORK // 2, 0),
    ("ask", "a", AT_WORK, 0),
    ("ask", "a", REQUEST, 0),
]


@given(STEPS)
@example([*THREE, ("cancel at its turn", "a", 1, 0)])
@example([*THREE, ("end, cancel next", "a", 1, 0)])
@example([*THREE, ("fail, cancel next", "a", 1, 0)])
@example([*SMALL_BEHIND_LARGE, ("cancel", "a", 1, 1)])
@example([*SMALL_BEHIND_LARGE, ("end", "a", 1, 0)])
def test_the_books_are_kept(steps: list[tuple[str, str, int, int]]) -> None:
    """Whoever leaves, and however: never more than the bound is at work, unless one request is;
    who waits has a reason to, and gets in in order; in the end nothing is left."""
    asyncio.run(_keeps_books(steps))


async def _keeps_books(steps: list[tuple[str, str, int, int]]) -> None:
    requests = Requests(Gate(lambda: 0.0))
    asked: dict[int, tuple[str, int]] = {}
    for number, (step, account, size, which) in enumerate(steps):
        if step == "ask":
            asked[number] = (account, size)
            await requests.ask(number, account, size)
        else:
            own = [one for one, (name, _) in asked.items() if name == account]
            at_work = [one for one in own if one in requests.at_work]
            waiting = [one for one in own if requests.waits(one)]
            await _leave(requests, step, at_work, waiting, which)
        _check(requests, asked)
    await requests.end_all()
    assert all(task.done() for task in requests.tasks.values())
    assert nothing_is_left(requests.gate)
    ends = await asyncio.gather(*requests.tasks.values(), return_exceptions=True)
    expected = (SynclineError, asyncio.CancelledError)
    assert all(end is None or isinstance(end, expected) for end in ends)


async def _leave(
    requests: Requests, step: str, at_work: list[int], waiting: list[int], which: int
) -> None:
    """One of those at work, or that wait, goes in one of the ways in which it may."""
    present = at_work + waiting
    if step == "cancel" and present:
        requests.tasks[present[which % len(present)]].cancel()
    elif step == "end" and at_work:
        requests.ends[at_work[which % len(at_work)]].set_result(None)
    elif step == "fail" and at_work:
        requests.ends[at_work[which % len(at_work)]].set_exception(unavailable())
    elif waiting:
        for one in at_work:
            if step == "fail, cancel next":
                requests.ends[one].set_exception(unavailable())
            else:
                requests.ends[one].set_result(None)
        if step != "end, cancel next":
            await asyncio.sleep(0)  # now it has begun, and the one whose it is does not know yet
        requests.tasks[waiting[0]].cancel()
    await settle()


def _check(requests: Requests, asked: dict[int, tuple[str, int]]) -> None:
    for account in "ab":
        sizes = requests.sizes(account)
        assert len(sizes) <= 1 or sum(sizes) <= AT_WORK
        entered = [number for name, number in requests.entered if name == account]
        assert entered == sorted(entered)
        waiting = [
            size
            for number, (name, size) in asked.items()
            if name == account and requests.waits(number)
        ]
        if waiting:
            assert sizes, "they wait for nobody"
            assert sum(sizes) + waiting[0] > AT_WORK


async def test_who_is_alone_waits_for_nothing() -> None:
    """A bound would only cost it throughput; but as soon as somebody else asks, it is bounded."""
    clock = Clock()
    requests = Requests(Gate(clock))
    await requests.ask(0, "a", AT_WORK)
    clock.now_s += gates.ALONE_AFTER_S
    await requests.ask(1, "a", AT_WORK)
    await requests.ask(2, "a", AT_WORK)
    assert list(requests.at_work) == [0, 1, 2]
    requests.gate.note("b")
    await requests.ask(3, "a", AT_WORK)
    await requests.ask(4, "a", AT_WORK)
    for number in (0, 1):
        await requests.end(number)
        assert 3 not in requests.at_work
    await requests.end(2)
    assert list(requests.at_work) == [3]
    clock.now_s += gates.ALONE_AFTER_S
    await requests.ask(5, "a", AT_WORK)
    await requests.end(3)
    assert list(requests.at_work) == [4, 5]
    await requests.end_all()
    assert nothing_is_left(requests.gate)


async def test_accounts_do_not_wait_for_each_other() -> None:
    requests = Requests(Gate(lambda: 0.0))
    for number, account in enumerate("abcab"):
        await requests.ask(number, account, AT_WORK)
    assert list(requests.at_work) == [0, 1, 2]
    await requests.end_all()


async def test_there_is_no_more_room_to_wait_in_than_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one account and of all; one request of an account may always wait."""
    requests = Requests(Gate(lambda: 0.0))
    for number in range(3):
        await requests.ask(number, "a", 2 * WAITING_OF_ONE)
    assert list(requests.at_work) == [0]
    with pytest.raises(SynclineError) as caught:
        await requests.tasks[2]
    assert caught.value.code is Code.OVERLOADED
    monkeypatch.setattr(gates, "WAITING", 2 * WAITING_OF_ONE)
    await requests.ask(3, "b", AT_WORK)
    await requests.ask(4, "b", AT_WORK)
    with pytest.raises(SynclineError) as caught:
        await requests.tasks[4]
    assert caught.value.code is Code.OVERLOADED
    await requests.end_all()
    assert [number for _, number in requests.entered] == [0, 3, 1]
    assert nothing_is_left(requests.gate)


async def test_who_has_gone_takes_no_room() -> None:
    """A line that never ends lets in any number, one after another."""
    requests = Requests(Gate(lambda: 0.0))
    for number in range(30):
        await requests.ask(number, "a", WAITING_OF_ONE // 10)
        if number >= 5:
            await requests.end(number - 5)
    await requests.end_all()
    assert [number for _, number in requests.entered] == list(range(30))


async def test_who_waits_behind_a_failure_of_the_database_fails_with_it() -> None:
    """An account that is held would cost each of its requests two seconds, one after another."""
    requests = Requests(Gate(lambda: 0.0))
    for number in range(4):
        await requests.ask(number, "a", AT_WORK)
    await requests.end(0, unavailable())
    assert not requests.at_work
    failures = [requests.tasks[number].exception() for number in range(4)]
    assert [isinstance(one, SynclineError) and one.code for one in failures] == [
        Code.DATABASE_UNAVAILABLE
    ] * 4
    assert nothing_is_left(requests.gate)
    await requests.ask(4, "a", AT_WORK)
    assert list(requests.at_work) == [4]
    await requests.end_all()


# --- the doors --------------------------------------------------------------------------------


@pytest.fixture
def held_up(
    start_service: Callable[..., Service], block: Block, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Service, Callable[[], None]]]:
    """A service that has all of account `a` that it works on at once; and what lets it go on."""
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 60_000)
    monkeypatch.setattr(gates, "ALONE_AFTER_S", 3_600.0)
    service = start_service()
    with service.client("a") as client, service.client("b") as other, ThreadPoolExecutor(1) as pool:
        client.put("/v1/documents/first", json={"value": 1})
        release = block(service.database_url, "a")
        large = pool.submit(client.put, "/v1/documents/large", json={"value": "x" * AT_WORK})
        while not value(scrape(service.url), "syncline_accounts_parked"):
            other.get("/v1/documents/none")
        yield service, release
        release()
        assert large.result().status_code == 201


def _ask(method: str, path: str, body: Any, **headers: str) -> Callable[[Service], int]:
    def ask(service: Service) -> int:
        with service.client("a") as client:
            client.get("/v1/documents/none")  # so that its token is known, as a hot route wants
            return client.request(method, path, json=body, headers=headers).status_code

    return ask


def _push(service: Service) -> int:
    async def push() -> int:
        async with talking(service.url, "a") as talk:
            await talk.send("push", mutations=[{}])
            problem: int = (await talk.next("problem"))["problem"]["status"]
            return problem

    return asyncio.run(push())


UNUSUAL = {"Prefer": "return=minimal"}
DOORS: dict[str, Callable[[Service], int]] = {
    "PUT": _ask("PUT", "/v1/documents/x", {}),
    "PUT by the router": _ask("PUT", "/v1/documents/x", {}, **UNUSUAL),
    "PATCH": _ask("PATCH", "/v1/documents/x", {}),
    "sync": _ask("POST", "/v1/sync", {"mutations": [{}]}),
    "sync by the router": _ask("POST", "/v1/sync", {"mutations": [{}]}, **UNUSUAL),
    "events": _ask("POST", "/v1/events", {"events": [{}]}),
    "a push over a socket": _push,
}


@pytest.mark.parametrize("door", list(DOORS))
def test_nothing_is_decoded_before_its_turn(
    held_up: tuple[Service, Callable[[], None]], door: str
) -> None:
    """What is nonsense would be refused at once, if somebody looked at it."""
    service, release = held_up
    with ThreadPoolExecutor(1) as pool, service.client("b") as other:
        refused: Future[int] = pool.submit(DOORS[door], service)
        for number in range(50):
            other.put("/v1/documents/mine", json={"value": number})
        assert not refused.done()
        release()
        assert refused.result() in (400, 422)
