"""Sockets: what an idle one costs, how fast a change arrives, and what a storm of them does.

The clients run in this process, on the same machine as the service and its database.
"""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from statistics import quantiles
from typing import Any, TypeVar

import httpx
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from bench import meters
from bench.generators import FailedRun
from bench.live_client import LiveClient, allow_many_files, connect, hello
from bench.service import Service, fresh_database, fresh_service

DEVICES = 2
"""Sockets of each account."""
AT_ONCE = 200
"""Connections that are made at once, where nothing else is asked for."""
PATIENCE_S = 60.0
SETTLE_S = 3.0
"""After the last hello, for presence to be told."""
FIRST_JITTER_S, LAST_JITTER_S = 0.5, 5.0
WRITERS = 32
BESIDE_RATE = 50.0
LEAD_S = 2.0
"""How long is written before the storm."""
Say = Callable[[str], None]
T = TypeVar("T")


class Sockets(msgspec.Struct):
    """What idle sockets take of the service."""

    sockets: int
    bytes_a_socket: float
    connected_a_second: float
    idle_share: float
    """Processor time of the service while they idle, as a share of one processor."""


class Push(msgspec.Struct):
    """From before a write is sent to when the other device has it."""

    sockets: int
    processes: int
    writes_a_second: float
    deliveries: int
    missing: int
    """Changes that a socket was never sent, nor a later one of the same document."""
    p50_ms: float
    p99_ms: float
    longest_ms: float
    write_p99_ms: float
    """Of the answers to the writes themselves."""
    server_share: float
    generator_share: float


class Storm(msgspec.Struct):
    """All sockets are cut at once and come back."""

    sockets: int
    jitter: bool
    all_back_s: float
    p50_ms: float
    p99_ms: float
    """From connecting to the first changes frame."""
    attempts: int
    refused: int
    """Attempts that failed, and were made again."""
    write_p99_ms: float
    """Of writes by HTTP meanwhile."""
    failed_writes: int


class Crowd:
    """Sockets, two devices an account, that connect again when they are told to."""

    def __init__(self, service: Service, sockets: int) -> None:
        self.service = service
        accounts = sockets // DEVICES
        self.tokens = {f"live-{n}": service.token(f"live-{n}") for n in range(accounts)}
        self.connected: dict[tuple[str, str], LiveClient] = {}
        self.cursors: dict[tuple[str, str], str] = {}
        self.on_changes: Callable[[tuple[str, str], bytes], None] = lambda _1, _2: None
        self.latencies_ms: list[float] = []
        self.attempts = 0
        self.refused = 0
        self.lost: list[tuple[int, str] | None] = []
        """Connections that ended without being asked to."""

    async def join_all(self) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(account: str, device: str) -> None:
            async with slots:
                await self.join(account, device)

        await asyncio.gather(
            *(one(account, f"d{n}") for account in self.tokens for n in range(DEVICES))
        )

    async def join(self, account: str, device: str) -> None:
        """Until it is told where it stands; tries again with jitter that doubles."""
        longest_s = FIRST_JITTER_S
        while not await self._try(account, device):
            self.refused += 1
            await asyncio.sleep(random.uniform(0, longest_s))
            longest_s = min(2 * longest_s, LAST_JITTER_S)

    async def _try(self, account: str, device: str) -> bool:
        self.attempts += 1
        began = time.perf_counter()
        greeted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        id = (account, device)

        def on_text(client: LiveClient, text: bytes) -> None:
            if not text.startswith(b'{"type":"changes"'):
                return
            if not greeted.done():
                self.cursors[id] = msgspec.json.decode(text)["cursor"]
                greeted.set_result(True)
            else:
                self.on_changes(id, text)

        def on_lost(client: LiveClient, why: tuple[int, str] | None) -> None:
            if not greeted.done():
                greeted.set_result(False)
            elif self.connected.get(id) is client:
                self.lost.append(why)

        text = hello(self.tokens[account], device, self.cursors.get(id))
        try:
            client = await connect(
                self.service.url, lambda host: LiveClient(host, text, on_text, on_lost)
            )
            async with asyncio.timeout(PATIENCE_S):
                if not await greeted:
                    return False
        except (OSError, TimeoutError):
            return False
        self.latencies_ms.append((time.perf_counter() - began) * 1000)
        self.connected[id] = client
        return True

    def cut_all(self) -> None:
        clients, self.connected = list(self.connected.values()), {}
        for client in clients:
            client.cut()

    def refuse_losses(self) -> None:
        if self.lost:
            raise FailedRun(f"{len(self.lost)} sockets were closed: {self.lost[0]}")


class Writes:
    """PUTs by HTTP, at a rate that does not wait for the answers."""

    def __init__(self, url: str, tokens: dict[str, str], rate: float) -> None:
        self._url = url
        self._tokens = list(tokens.items())
        self._rate = rate
        self.latencies_ms: list[float] = []
        self.failed = 0
        self.sent = 0
        self.newest: dict[str, int] = {}
        """The last number written to each account, once it is acknowledged."""

    async def run(self, until: float) -> None:
        """Until that moment of `time.perf_counter`."""
        host = httpx.URL(self._url)
        queue: asyncio.Queue[tuple[float, int] | None] = asyncio.Queue()
        workers = [
            asyncio.create_task(self._work(queue, host.host, host.port or 80))
            for _ in range(WRITERS)
        ]
        began = time.perf_counter()
        while (now := time.perf_counter()) < until:
            while self.sent < (now - began) * self._rate:
                queue.put_nowait((time.perf_counter(), self.sent))
                self.sent += 1
            await asyncio.sleep(0.001)
        for _ in workers:
            queue.put_nowait(None)
        await asyncio.gather(*workers)

    async def _work(
        self, queue: "asyncio.Queue[tuple[float, int] | None]", host: str, port: int
    ) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        while (due := await queue.get()) is not None:
            moment, number = due
            account, token = self._tokens[number % len(self._tokens)]
            body = f'{{"value":{{"at":{moment:.6f},"number":{number},"text":"{"x" * 230}"}}}}'
            writer.write(
                f"PUT /v1/documents/live HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}"
                f"\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(_length(head))
            self.latencies_ms.append((time.perf_counter() - moment) * 1000)
            if head.startswith(b"HTTP/1.1 2"):
                self.newest[account] = max(number, self.newest.get(account, 0))
            else:
                self.failed += 1
        writer.close()


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


def write_beside(url: str, tokens: dict[str, str], seconds: float) -> tuple[list[float], int]:
    """A process that only writes: the one that connects is too busy to say how long a write took.
    Latencies in ms, and how many failed."""
    writes = Writes(url, tokens, BESIDE_RATE)
    uvloop.run(writes.run(time.perf_counter() + seconds))
    return writes.latencies_ms, writes.failed


# --- the three workloads ----------------------------------------------------------------------


def sockets(count: int, workers: int, seconds: float, say: Say) -> Sockets:
    """Memory is that of all processes of the service, before and after, so the first
    connections are left out: what they warm up is not a socket's."""

    async def measure(service: Service) -> Sockets:
        warm = Crowd(service, AT_ONCE)
        await warm.join_all()
        warm.cut_all()
        await asyncio.sleep(SETTLE_S)
        before, began = meters.memory_bytes(service.process), time.monotonic()
        say(f"Connecting {count} sockets.")
        crowd = Crowd(service, count)
        await crowd.join_all()
        took_s = time.monotonic() - began
        await asyncio.sleep(SETTLE_S)
        processor, began = meters.processor_s(service.process), time.monotonic()
        await asyncio.sleep(seconds)
        crowd.refuse_losses()
        idle_s = meters.processor_s(service.process) - processor
        after = meters.memory_bytes(service.process)
        return Sockets(
            sockets=count,
            bytes_a_socket=(after - before) / count,
            connected_a_second=count / took_s,
            idle_share=idle_s / (time.monotonic() - began),
        )

    return _run(measure, workers)


def push(count: int, workers: int, rate: float, seconds: float, say: Say) -> Push:
    async def measure(service: Service) -> Push:
        say(f"Connecting {count} sockets.")
        crowd = Crowd(service, count)
        await crowd.join_all()
        warm = Writes(service.url, crowd.tokens, rate)
        await warm.run(time.perf_counter() + 2.0)
        await asyncio.sleep(1.0)
        latencies_ms: list[float] = []
        seen: dict[tuple[str, str], int] = {}

        def arrived(id: tuple[str, str], text: bytes) -> None:
            now = time.perf_counter()
            at, number = text.index(b'"at":') + 5, text.index(b'"number":') + 9
            latencies_ms.append((now - float(text[at : text.index(b",", at)])) * 1000)
            seen[id] = int(text[number : text.index(b",", number)])

        crowd.on_changes = arrived
        say(f"Writing {rate:,.0f} a second for {seconds:.0f} s.")
        writes = Writes(service.url, crowd.tokens, rate)
        server, own, began = (
            meters.processor_s(service.process),
            time.process_time(),
            time.perf_counter(),
        )
        await writes.run(began + seconds)
        took_s = time.perf_counter() - began
        server, own = meters.processor_s(service.process) - server, time.process_time() - own
        await asyncio.sleep(SETTLE_S)
        crowd.refuse_losses()
        if writes.failed:
            raise FailedRun(f"{writes.failed} writes failed")
        expected = {
            (account, f"d{n}"): number
            for account, number in writes.newest.items()
            for n in range(DEVICES)
        }
        cuts = quantiles(latencies_ms, n=100)
        return Push(
            sockets=count,
            processes=workers,
            writes_a_second=len(writes.latencies_ms) / took_s,
            deliveries=len(latencies_ms),
            missing=sum(seen.get(id, -1) < number for id, number in expected.items()),
            p50_ms=cuts[49],
            p99_ms=cuts[98],
            longest_ms=max(latencies_ms),
            write_p99_ms=quantiles(writes.latencies_ms, n=100)[98],
            server_share=server / took_s,
            generator_share=own / took_s,
        )

    return _run(measure, workers)


def storm(count: int, workers: int, jitter: bool, say: Say) -> Storm:
    """Without jitter all come back in the same moment."""

    async def measure(service: Service) -> Storm:
        say(f"Connecting {count} sockets.")
        crowd = Crowd(service, count)
        await crowd.join_all()
        await asyncio.sleep(SETTLE_S)
        crowd.refuse_losses()
        crowd.latencies_ms, crowd.attempts, crowd.refused = [], 0, 0
        say("Cutting all of them.")
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        writing = asyncio.get_running_loop().run_in_executor(
            pool, write_beside, service.url, crowd.tokens, 2 * LAST_JITTER_S
        )
        await asyncio.sleep(LEAD_S)
        began = time.perf_counter()
        crowd.cut_all()

        async def back(account: str, device: str) -> None:
            await asyncio.sleep(random.uniform(0, FIRST_JITTER_S * 4) if jitter else 0)
            await crowd.join(account, device)

        await asyncio.gather(
            *(back(account, f"d{n}") for account in crowd.tokens for n in range(DEVICES))
        )
        took_s = time.perf_counter() - began
        latencies_ms, failed = await writing
        pool.shutdown()
        crowd.refuse_losses()
        cuts = quantiles(crowd.latencies_ms, n=100)
        return Storm(
            sockets=count,
            jitter=jitter,
            all_back_s=took_s,
            p50_ms=cuts[49],
            p99_ms=cuts[98],
            attempts=crowd.attempts,
            refused=crowd.refused,
            write_p99_ms=quantiles(latencies_ms, n=100)[98],
            failed_writes=failed,
        )

    return _run(measure, workers)


def _run(measure: Callable[[Service], Coroutine[Any, Any, T]], workers: int) -> T:
    allow_many_files()
    with fresh_database() as database, fresh_service(database, workers) as service:
        return uvloop.run(measure(service))


def show(result: msgspec.Struct, out: Console) -> None:
    """A line for each figure."""
    table = Table(type(result).__name__.lower(), "")
    for name, value in msgspec.structs.asdict(result).items():
        table.add_row(
            name.replace("_", " "), f"{value:,.2f}" if isinstance(value, float) else str(value)
        )
    out.print(table)
