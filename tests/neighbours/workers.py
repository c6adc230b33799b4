"""A real service of two workers, and connections to each of them."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from tests.sync.processes import Process

PATIENCE_S = 120.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Connection:
    """Kept open, so that all its requests meet one worker."""

    def __init__(self, process: Process) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)
        self._process = process
        self._client = httpx.Client(base_url=process.url, limits=limits, timeout=PATIENCE_S)
        self.worker = int(self._metrics("worker")[0])
        """Its process id."""

    def number(self, metric: str) -> float:
        """What the worker says of itself; `metric` without its prefix."""
        (found,) = self._metrics(metric)
        return float(found)

    def request(
        self,
        account: str,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._process.token(account)}"}
        return self._client.request(method, path, headers=headers, json=json, content=content)

    def is_linked(self) -> bool:
        """Whether its worker would hand over to the other one."""
        return self.number("neighbours_linked") == 1

    def close(self) -> None:
        self._client.close()

    def _metrics(self, name: str) -> list[str]:
        text = self._client.get("/metrics").text
        if name == "worker":
            return re.findall(r'^syncline_info{.*worker="(\d+)"', text, re.MULTILINE)
        return re.findall(rf"^syncline_{name}{{.*}} (\S+)$", text, re.MULTILINE)


@contextmanager
def connected(process: Process) -> Iterator[list[Connection]]:
    """A connection to each of two workers, which have found each other."""
    with ExitStack() as stack:
        found: dict[int, Connection] = {}
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < 2:
            assert time.monotonic() < deadline, "there are no two workers"
            connection = Connection(process)
            if connection.worker in found:
                connection.close()
                time.sleep(0.05)  # the other may have to start, and needs the processor for it
            else:
                stack.callback(connection.close)
                found[connection.worker] = connection
        for connection in found.values():
            until(connection.is_linked)
        yield list(found.values())


@contextmanager
def two_workers(database_url: str, **settings: str) -> Iterator[Process]:
    process = Process(database_url, workers="2", **settings)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.end()


def away(connections: list[Connection], account: str) -> Connection:
    """The connection to the worker where the account is not at home."""
    for connection in connections:
        before = connection.number("neighbours_handed_over_total")
        assert connection.request(account, "POST", "/v1/sync", json={}).status_code == 200
        if connection.number("neighbours_handed_over_total") > before:
            return connection
    raise AssertionError("nobody hands the account over")
