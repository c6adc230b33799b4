"""Real `syncline serve` processes, which a test may kill."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.auth.tokens import mint
from app.clock import system_clock
from tests.conftest import ADMIN_TOKEN, SECRET

REPOSITORY = Path(__file__).parents[2]


class Process:
    """One process of the service, started on a free port."""

    def __init__(self, database_url: str, **settings: str) -> None:
        variables = {
            "SYNCLINE_DATABASE_URL": database_url,
            "SYNCLINE_JWT_SECRET": SECRET,
            "SYNCLINE_ADMIN_TOKEN": ADMIN_TOKEN,
            "SYNCLINE_PORT": "0",
            **{f"SYNCLINE_{name.upper()}": value for name, value in settings.items()},
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve"],
            cwd=REPOSITORY,
            env={**os.environ, **variables},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if line.startswith("Syncline listens on "):
                self.url = line.rpartition(" ")[2].strip()
                # A pipe that nobody empties would stop the service.
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return
        raise AssertionError("the service did not start:\n" + "".join(said))

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the service is not ready")

    @property
    def pid(self) -> int:
        return self._process.pid

    def token(self, account: str) -> str:
        return mint(SECRET, account, ttl_s=3600, now_ms=system_clock())

    def client(self, account: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token(account)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0)

    def kill(self) -> None:
        """kill -9: nothing is finished, nobody is told."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(40)


@contextmanager
def two_processes(database_url: str, **settings: str) -> Iterator[list[Process]]:
    """Two processes on one database."""
    processes: list[Process] = []
    try:
        processes += [Process(database_url, **settings) for _ in range(2)]
        for process in processes:
            process.wait_until_ready()
        yield processes
    finally:
        for process in processes:
            process.end()
