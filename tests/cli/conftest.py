"""The command line, in this process where that is enough, and as a process where it matters."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from app import cli
from app.auth.tokens import mint
from app.clock import system_clock

SECRET = "only-for-tests-" + "1" * 32
ADMIN_TOKEN = "only-for-operators-" + "1" * 32
PATIENCE_S = 30.0

OWN_SECRETS = {"SYNCLINE_JWT_SECRET": SECRET, "SYNCLINE_ADMIN_TOKEN": ADMIN_TOKEN}

Invoke = Callable[..., Result]


def clean_environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    return kept | {"COLUMNS": "200", "SYNCLINE_PORT": "0"} | variables


@dataclass
class Serve:
    """A `syncline serve` of its own; what it says on stderr goes to a file."""

    folder: Path
    variables: dict[str, str]
    process: "subprocess.Popen[bytes]" = field(init=False)
    url: str = ""

    def __post_init__(self) -> None:
        self.log = self.folder / f"stderr-{time.monotonic_ns()}"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve"],
                env=clean_environment(**{**OWN_SECRETS, **self.variables}),
                cwd=self.folder,
                stdout=file,
                stderr=file,
            )

    def greeted(self) -> "Serve":
        """Waits for the greeting, which names the address."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"Syncline listens on (\S+)\n", self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        self.url = found[1]
        return self

    def said(self) -> str:
        return self.log.read_text()

    def client(self, account: str) -> httpx.Client:
        token = mint(SECRET, account, ttl_s=600, now_ms=system_clock())
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S)

    def stopped(self, number: int) -> int:
        """Sends a signal and waits for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the embedded server's account can enter as well."""
    made = Path(tempfile.mkdtemp(prefix="syncline-cli-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[..., Serve]]:
    """Starts services; the test's end stops them."""
    started: list[Serve] = []

    def start(**variables: str) -> Serve:
        started.append(Serve(folder, variables))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            try:
                one.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()


@pytest.fixture
def invoke(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Runs a command in an empty folder, on a wide terminal."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(cli, "out", Console(width=200))
    monkeypatch.setattr(cli, "err", Console(width=200, stderr=True))

    def run(*arguments: str, **variables: Any) -> Result:
        return CliRunner().invoke(cli.main, arguments, env=variables)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
