"""The database and the service that are measured, both fresh, both gone afterwards."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import httpx

from app.auth.tokens import mint
from app.clock import system_clock
from app.database import embedded
from bench.generators import FailedRun
from bench.meters import query

DATABASE_OPTIONS = {"shared_buffers": "512MB", "fsync": "on", "synchronous_commit": "on"}
START_S = 60.0
STOP_S = 40.0
TOKEN_TTL_S = 4 * 3_600
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Database:
    """A running PostgreSQL; `process` is the id of its postmaster."""

    url: str
    process: int


@dataclass(frozen=True)
class Service:
    """A running service and what its tokens are signed with."""

    url: str
    secret: str
    process: int
    log: Path

    def token(self, account: str) -> str:
        return mint(self.secret, account, ttl_s=TOKEN_TTL_S, now_ms=system_clock())


@contextmanager
def fresh_folder(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder for a database, by default where temporary files go."""
    with TemporaryDirectory(
        prefix="syncline-bench-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user than root
        yield Path(folder)


@contextmanager
def fresh_database() -> Iterator[Database]:
    """A durable embedded PostgreSQL in a temporary folder."""
    with fresh_folder() as folder, database_in(folder, DATABASE_OPTIONS) as database:
        yield database


@contextmanager
def database_in(folder: Path, options: Mapping[str, str]) -> Iterator[Database]:
    """The embedded PostgreSQL of a folder, with what an earlier one left there."""
    with embedded.start(folder, options=options, report=lambda _: None) as running:
        (row,) = query(running.url, "select current_setting('data_directory')")
        yield Database(running.url, int(Path(row[0], "postmaster.pid").read_text().split()[0]))


@contextmanager
def fresh_service(
    database: Database, workers: int, settings: Mapping[str, str] = _NO_SETTINGS
) -> Iterator[Service]:
    """`syncline serve` on the database, as an operator starts it; `settings` by their variables."""
    secret = secrets.token_hex(32)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SYNCLINE_")} | {
        "SYNCLINE_DATABASE_URL": database.url,
        "SYNCLINE_JWT_SECRET": secret,
        "SYNCLINE_ADMIN_TOKEN": secrets.token_hex(32),
        "SYNCLINE_PORT": "0",
        "SYNCLINE_WORKERS": str(workers),
        **settings,
    }
    command = (sys.executable, "-P", "-m", "app.cli")  # what is installed, wherever this is run
    subprocess.run([*command, "migrate"], env=environment, check=True, capture_output=True)
    with TemporaryDirectory(prefix="syncline-bench-") as folder:
        log = Path(folder, "log")
        with log.open("w") as file:
            process = subprocess.Popen([*command, "serve"], env=environment, stderr=file)
        try:
            url = _await(process, log)
            yield Service(url, secret, process.pid, log)
        finally:
            _stop(process)


def _await(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address of the service, once it answers."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("Syncline listens on "):
                url = line.rpartition(" ")[2]
                if _is_ready(url):
                    return url
        time.sleep(0.05)
    raise FailedRun(f"the service did not start:\n{log.read_text()}")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0).status_code == 200
    except httpx.HTTPError:
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
