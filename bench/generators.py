"""Who sends the requests: wrk where it is installed, else a dearer generator in Python.

A closed loop: each connection sends its next request when the last was answered.
"""

import asyncio
import re
import resource
import shutil
import subprocess
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from bench.workloads import Item, Plan

CONNECTIONS = 32
_MARK = re.compile(r"@([a-z])")
_SCRIPT = Path(__file__).with_name("load.lua")


class FailedRun(Exception):
    """The service did not do what was asked, so its speed says nothing."""


class Load(msgspec.Struct):
    """What one generator saw; `processor_s` is what it took of the machine itself."""

    requests: int
    seconds: float
    errors: int
    """Answers other than 2xx, and connections that broke."""
    p50_ms: float
    p99_ms: float
    processor_s: float = 0.0


class Generator(Protocol):
    name: str

    def run(self, plan: Plan, url: str, seconds: float, connections: int = CONNECTIONS) -> Load:
        """Sends the requests of a plan for a while."""


def choose(name: str) -> Generator:
    """`wrk`, `python`, or `auto` for the cheaper one that is here."""
    if name == "python" or (name == "auto" and shutil.which("wrk") is None):
        return PythonGenerator()
    if shutil.which("wrk") is None:
        raise FailedRun("wrk is not installed (apt-get install wrk)")
    return Wrk()


def _head(item: Item, host: str) -> list[str]:
    return [
        f"{item.method} {item.path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {item.token}",
        *(["Content-Type: application/json"] if item.body is not None else []),
    ]


class Wrk:
    """One thread of wrk, which takes a few microseconds a request."""

    name = f"wrk -t1 -c{CONNECTIONS}"

    def run(self, plan: Plan, url: str, seconds: float, connections: int = CONNECTIONS) -> Load:
        with TemporaryDirectory(prefix="syncline-bench-") as folder:
            Path(folder, "bodies").write_text("".join(f"{body}\n" for body in plan.bodies))
            Path(folder, "items").write_text(
                "".join(self._line(item, urlsplit(url).netloc) for item in plan.items)
            )
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            output = self._execute(url, seconds, connections, folder, plan)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        load = msgspec.json.decode(output, type=Load)
        load.processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return load

    def _line(self, item: Item, host: str) -> str:
        body = "" if item.body is None else item.body + 1
        return "\t".join((str(item.version), str(body), *_head(item, host))) + "\n"

    def _execute(self, url: str, seconds: float, connections: int, folder: str, plan: Plan) -> str:
        command = ("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s")
        finished = subprocess.run(
            [
                *(*command, "--timeout", "10s", "-s", str(_SCRIPT), url),
                *("--", folder, str(plan.stale), str(plan.documents)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"^result (.*)$", finished.stdout, re.MULTILINE)
        if finished.returncode != 0 or found is None:
            raise FailedRun(f"wrk failed: {finished.stdout}{finished.stderr}")
        return found[1]


class PythonGenerator:
    """Raw sockets in this process: several times as dear as wrk, so the figures come out lower."""

    name = f"Python, {CONNECTIONS} connections (dearer than wrk: the figures come out lower)"

    def run(self, plan: Plan, url: str, seconds: float, connections: int = CONNECTIONS) -> Load:
        return self._run(plan, url, time.monotonic() + seconds, None, connections)

    def run_once(self, plan: Plan, url: str) -> Load:
        """Sends each request of the plan once."""
        return self._run(plan, url, float("inf"), len(plan.items), CONNECTIONS)

    def _run(
        self, plan: Plan, url: str, deadline: float, limit: int | None, connections: int
    ) -> Load:
        feed = _Feed(plan, url, deadline, limit)
        began, processor = time.monotonic(), time.process_time()
        asyncio.run(_drive(feed, connections))
        fractions = (
            quantiles(feed.latencies_ms, n=100) if len(feed.latencies_ms) > 1 else [0.0] * 99
        )
        return Load(
            requests=len(feed.latencies_ms),
            seconds=time.monotonic() - began,
            errors=feed.errors,
            p50_ms=fractions[49],
            p99_ms=fractions[98],
            processor_s=time.process_time() - processor,
        )


class _Feed:
    """The next request, until the time is over, and what became of those before."""

    def __init__(self, plan: Plan, url: str, deadline: float, limit: int | None) -> None:
        self._plan = plan
        self.host = urlsplit(url).netloc
        self._deadline = deadline
        self._limit = limit
        self._sent = 0
        self.errors = 0
        self.latencies_ms: list[float] = []

    def next(self) -> bytes | None:
        if self._sent == self._limit or time.monotonic() >= self._deadline:
            return None
        item = self._plan.items[self._sent % len(self._plan.items)]
        self._sent += 1
        lines = _head(item, self.host)
        if item.body is None:
            return ("\r\n".join(lines) + "\r\n\r\n").encode()
        plan = self._plan
        body = fill(plan.bodies[item.body], item.version, plan.stale, plan.documents)
        item.version += 1
        return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n" + body).encode()


def fill(body: str, version: int, stale: int, documents: int = 1) -> str:
    """A body with its marks filled in, as load.lua does it."""
    base = version - stale
    values = {
        "b": str(base),
        "s": str(base + 1),
        "n": str(version + 1),
        "d": str(version % 2),
        "i": f"{version + 1:08x}",
        "c": urlsafe_b64encode(str(version * documents).encode()).decode().rstrip("="),
    }
    return _MARK.sub(lambda mark: values[mark[1]], body)


async def _drive(feed: _Feed, connections: int) -> None:
    host, _, port = feed.host.rpartition(":")
    await asyncio.gather(*(_connection(feed, host, int(port)) for _ in range(connections)))


async def _connection(feed: _Feed, host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while (request := feed.next()) is not None:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            feed.latencies_ms.append((time.perf_counter() - began) * 1000)
            feed.errors += not head.startswith(b"HTTP/1.1 2")
    except (OSError, EOFError):
        feed.errors += 1
    finally:
        writer.close()
