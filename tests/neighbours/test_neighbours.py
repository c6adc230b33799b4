"""Neighbours in one process, over real sockets: who serves what, and what of it is certain."""

import asyncio
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from app.answer import Answer
from app.errors import Code, SynclineError
from app.failures import failed
from app.neighbours import asking, neighbours
from app.neighbours.asking import DOUBTFUL_LOOKS, SILENT_LOOKS, AskingEnd
from app.neighbours.frames import SIGN_OF_LIFE, Handed, frame
from app.neighbours.neighbours import Neighbours
from app.neighbours.places import home_of, socket_path, take_place

PATIENCE_S = 30.0
ACCOUNTS = [f"account-{number}" for number in range(40)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Its path is short: that of a socket has little room."""
    made = Path(tempfile.mkdtemp(prefix="syncline-neighbours-"))
    yield made
    shutil.rmtree(made)


class Worker:
    """Serves by saying its name; what it serves waits for its gate."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.served: Counter[bytes] = Counter()
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.neighbours = Neighbours(folder, 2, self._write)
        self.stopped = False

    async def _write(self, account: str, key: str | None, body: bytes) -> Answer:
        self.begun += 1
        await self.gate.wait()
        self.served[body] += 1
        if body == b"problem":
            raise SynclineError(Code.OVERLOADED, "Come again.", limit=1)
        if body == b"failure":
            raise RuntimeError("nobody expected this")
        return Answer(201, [(b"etag", b'"1"')], f"{self.name} {account} {key}".encode(), b"text/x")

    async def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            await self.neighbours.stop()

    def elsewhere(self) -> str:
        """An account whose home is the other worker."""
        assert self.neighbours._place is not None
        mine = self.neighbours._place.number
        return next(name for name in ACCOUNTS if home_of(name, 2) != mine)


@pytest.fixture
async def workers(folder: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two that have found each other."""
    one, other = Worker("one", folder), Worker("other", folder)
    for worker in (one, other):
        worker.neighbours.start()
    await until(lambda: one.neighbours.links == other.neighbours.links == 1)
    yield one, other
    for worker in (one, other):
        worker.gate.set()
    await asyncio.gather(one.stop(), other.stop())


async def test_an_account_is_served_at_its_home(workers: tuple[Worker, Worker]) -> None:
    """Whichever worker is asked; the answer is the home's own."""
    one, other = workers
    for account in ACCOUNTS:
        answers = [
            await worker.neighbours.write(account, key, b"body")
            for worker in workers
            for key in ("key", None)
        ]
        assert answers[0] == answers[2]
        assert answers[1] == answers[3]
    named = {answer.split()[0] for answer in (answers[0].body, answers[1].body)}
    assert named <= {b"one", b"other"}
    handed_over = one.neighbours.meter.handed_over, other.neighbours.meter.handed_over
    assert sum(handed_over) == 2 * len(ACCOUNTS)
    assert handed_over == (other.neighbours.meter.served, one.neighbours.meter.served)
    assert min(handed_over) > 0
    assert one.neighbours.meter.away == other.neighbours.meter.away == 0


@pytest.mark.parametrize("body", [b"problem", b"failure"])
async def test_what_the_home_refuses_comes_as_its_answer(
    workers: tuple[Worker, Worker], body: bytes
) -> None:
    """With status, headers and body as they were made here."""
    one, _ = workers
    with pytest.raises((SynclineError, RuntimeError)) as here:
        await one._write("someone", "key", body)
    assert isinstance(here.value, Exception)
    answer = await one.neighbours.write(one.elsewhere(), "key", body)
    assert answer == failed(here.value, "PUT", "/v1/documents/key")


async def test_a_home_that_stops_answers_what_it_has_begun(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes. And what comes later is served here: nobody is refused, and
    nothing is done twice."""
    monkeypatch.setattr(neighbours, "CLOSING_S", 0.2)
    one, other = workers
    other.gate.clear()
    account = one.elsewhere()
    bodies = [str(number).encode() for number in range(200)]
    begun = [asyncio.create_task(one.neighbours.write(account, "k", body)) for body in bodies[:100]]
    await until(lambda: other.begun == 100)
    stopping = asyncio.create_task(other.stop())
    await until(lambda: one.neighbours.links == 0)
    for body in bodies[100:]:
        assert (await one.neighbours.write(account, "k", body)).body.startswith(b"one ")
    await asyncio.sleep(0.5)
    assert not stopping.done()
    other.gate.set()
    answers = await asyncio.gather(*begun)
    await stopping
    assert all(answer.body.startswith(b"other ") for answer in answers)
    assert one.served + other.served == Counter(bodies)


async def test_what_crosses_a_farewell_is_served_here(workers: tuple[Worker, Worker]) -> None:
    """The home has begun nothing of it, so it is certain that this counts once."""
    one, other = workers
    account = one.elsewhere()
    leaving = [asyncio.create_task(guest.leave()) for guest in other.neighbours._guests]
    crossing = [asyncio.create_task(one.neighbours.write(account, "k", b"1")) for _ in range(50)]
    answers = await asyncio.gather(*crossing, *leaving)
    assert one.neighbours.meter.handed_over == 50
    assert all(answer.body.startswith(b"one ") for answer in answers[:50] if answer)
    assert (one.begun, other.begun) == (50, 0)


async def test_a_link_that_breaks_leaves_it_uncertain(workers: tuple[Worker, Worker]) -> None:
    """Served here as well, a write without an id would count twice."""
    one, other = workers
    other.gate.clear()
    asked = asyncio.create_task(one.neighbours.write(one.elsewhere(), "k", b"1"))
    await until(lambda: other.begun == 1)
    for guest in other.neighbours._guests:
        guest.abort()
    with pytest.raises(SynclineError, match="not certain") as uncertain:
        await asked
    assert uncertain.value.code is Code.DATABASE_UNAVAILABLE
    assert one.begun == 0
    assert (await one.neighbours.write(one.elsewhere(), "k", b"2")).body.startswith(b"one ")
    await until(lambda: one.neighbours.links == 1)  # it comes back by itself
    other.gate.set()
    assert (await one.neighbours.write(one.elsewhere(), "k", b"3")).body.startswith(b"other ")


async def test_who_goes_away_leaves_the_write_with_the_home(
    workers: tuple[Worker, Worker],
) -> None:
    """As with a batch; and the link serves the next."""
    one, other = workers
    other.gate.clear()
    asked = asyncio.create_task(one.neighbours.write(one.elsewhere(), "k", b"1"))
    await until(lambda: other.begun == 1)
    asked.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled()
    other.gate.set()
    assert (await one.neighbours.write(one.elsewhere(), "k", b"2")).body.startswith(b"other ")
    assert other.served == Counter([b"1", b"2"])
    assert one.begun == 0


async def test_a_home_has_no_more_to_do_than_so_much(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past that a request is served where it came in."""
    monkeypatch.setattr(asking, "MOST_IN_FLIGHT", 5)
    one, other = workers
    other.gate.clear()
    asked = [
        asyncio.create_task(one.neighbours.write(one.elsewhere(), "k", b"1")) for _ in range(8)
    ]
    await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    await until(lambda: (other.begun, one.begun) == (5, 3))
    assert one.neighbours.meter.away == 3
    other.gate.set()
    await asyncio.gather(*asked)


# --- one end alone ----------------------------------------------------------------------------


class Peer:
    """The other end of an AskingEnd, by hand."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "peer")

    async def meet(self) -> AskingEnd:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            listener.listen()
            listener.setblocking(False)
            _, link = await loop.create_unix_connection(AskingEnd, self._path)
            self.socket, _ = await loop.sock_accept(listener)
        return link

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)


@pytest.fixture
async def peer(folder: Path) -> AsyncIterator[Peer]:
    made = Peer(folder)
    yield made
    made.socket.close()


async def test_who_has_not_greeted_is_not_asked(peer: Peer) -> None:
    """The kernel takes a connection also for a process that is stopped."""
    link = await peer.meet()
    assert not link.takes
    await peer.say(SIGN_OF_LIFE)
    await until(lambda: link.takes)
    link.abort()


async def test_who_is_silent_is_doubted_and_then_given_up(peer: Peer) -> None:
    """It hangs, and a client must not wait for it for ever."""
    link = await peer.meet()
    await peer.say(SIGN_OF_LIFE)
    await until(lambda: link.takes)
    asked = link.ask("someone", "k", b"1")
    for _ in range(DOUBTFUL_LOOKS):
        assert link.takes
        link.look()
    assert not link.takes
    await peer.say(SIGN_OF_LIFE)
    await until(lambda: link.takes)
    for _ in range(SILENT_LOOKS):
        link.look()
    await asyncio.sleep(0)
    assert not asked.done()
    link.look()
    with pytest.raises(SynclineError, match="not certain"):
        await asyncio.wait_for(asked, PATIENCE_S)
    assert link.closed.done()


async def test_who_reads_nothing_is_handed_nothing_more(peer: Peer) -> None:
    """Bodies would pile up here."""
    link = await peer.meet()
    await peer.say(SIGN_OF_LIFE)
    await until(lambda: link.takes)
    asked = []
    while link.takes:
        asked.append(link.ask("someone", "k", bytes(60_000)))
        await asyncio.sleep(0)
    assert len(asked) < 100
    link.abort()
    await asyncio.wait(asked)
    assert all(isinstance(one.exception(), SynclineError) for one in asked)


@pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\0\0\0\1x", b"\0\0\0\2\x92\x01"])
async def test_garbage_closes_the_link(peer: Peer, garbage: bytes) -> None:
    """Nothing after it can be trusted; what was asked is uncertain."""
    link = await peer.meet()
    await peer.say(SIGN_OF_LIFE)
    await until(lambda: link.takes)
    asked = link.ask("someone", "k", b"1")
    await peer.say(garbage)
    with pytest.raises(SynclineError, match="not certain"):
        await asyncio.wait_for(asked, PATIENCE_S)


async def test_garbage_closes_the_link_at_home_too(
    folder: Path, workers: tuple[Worker, Worker]
) -> None:
    assert workers[0].neighbours._place is not None
    path = socket_path(folder, workers[0].neighbours._place.number)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.read() == SIGN_OF_LIFE
    writer.close()


async def test_who_takes_no_answers_is_served_no_further(
    folder: Path, workers: tuple[Worker, Worker]
) -> None:
    """Answers would pile up at home."""
    home = workers[0]
    assert home.neighbours._place is not None
    path = socket_path(folder, home.neighbours._place.number)
    reader, writer = await asyncio.open_unix_connection(path, limit=1)
    request = frame(Handed(1, "a" * 4_000, "k", b""))
    requests = 4_000
    writer.write(request * requests)
    before = -1
    while before != home.begun:
        before = home.begun
        await asyncio.sleep(0.3)
    assert 0 < home.begun < requests
    while home.begun < requests:  # and goes on once they are taken
        assert await reader.read(1_000_000)
    writer.close()


# --- places -----------------------------------------------------------------------------------


def test_each_has_a_place_of_its_own(folder: Path) -> None:
    """And one that was given up is free for the next."""
    first, second = take_place(folder, 2), take_place(folder, 2)
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (0, 1)
    assert take_place(folder, 2) is None
    first.give_up()
    again = take_place(folder, 2)
    assert again is not None
    assert again.number == 0
    for place in (again, second):
        place.give_up()


def test_a_home_is_the_same_in_every_process() -> None:
    """Python's own hash of text differs from process to process."""
    assert [home_of(f"account-{number}", 4) for number in range(8)] == HOMES
    assert home_of("Zoë", 3) == 2


HOMES = [2, 0, 2, 0, 3, 1, 3, 1]


async def test_a_worker_that_comes_early_waits_for_a_place(folder: Path) -> None:
    """In a rolling restart the new one is there before the old one leaves."""
    workers = [Worker(name, folder) for name in ("old", "other", "new")]
    old, other, new = workers
    for worker in workers:
        worker.neighbours.start()
    await until(lambda: new.neighbours.links == 2)
    account = other.elsewhere()
    assert (await new.neighbours.write(account, "k", b"1")).body.startswith(b"old ")
    await old.neighbours.stop()
    await until(lambda: other.neighbours.links == 1)
    assert (await other.neighbours.write(account, "k", b"2")).body.startswith(b"new ")
    assert (await new.neighbours.write(account, "k", b"3")).body.startswith(b"new ")
    await asyncio.gather(other.neighbours.stop(), new.neighbours.stop())


async def test_without_its_folder_a_worker_serves_by_itself(folder: Path) -> None:
    """Somebody cleaned up: speed depends on it, and nothing else."""
    worker = Worker("one", folder / "gone")
    worker.neighbours.start()
    assert (await worker.neighbours.write("someone", "k", b"1")).body.startswith(b"one ")
    await asyncio.sleep(0.05)
    assert (await worker.neighbours.write("someone", "k", b"2")).body.startswith(b"one ")
    await worker.neighbours.stop()
