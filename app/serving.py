"""Starting the service: database, listening, stopping in good order."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import httpx
import msgspec
import uvicorn

from app.auth.secret import hs256_secret
from app.auth.tokens import mint
from app.clock import system_clock
from app.database import embedded
from app.database.engine import Database
from app.database.migrate import migrate
from app.documents.rules import load_registry
from app.logs import log_to_stderr
from app.main import StartError, create_app
from app.settings import Settings, variable

Report = Callable[[str], None]

GRACEFUL_STOP_S = 30
START_TIMEOUT_S = 60.0
TOKEN_TTL_S = 3_600


@contextmanager
def database_url(settings: Settings, report: Report) -> Iterator[str]:
    """The URL of the database: the one that was set, or the embedded one while this lasts."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    with embedded.start(settings.data_path, report=report) as cluster:
        yield cluster.url


def serve(settings: Settings, report: Report) -> None:
    """Serves until a signal asks to stop; what is in flight is answered first."""
    log_to_stderr()
    load_registry(settings)
    with database_url(settings, report) as url:
        if settings.database_url is None:
            asyncio.run(_bring_up_to_date(url))
        settings = msgspec.structs.replace(settings, database_url=url)
        _warn_of_development_secret(settings, report)
        if settings.workers == 1:
            _serve_alone(settings, report)
        else:
            _serve_workers(settings, url, report)


async def _bring_up_to_date(url: str) -> None:
    database = Database(url, pool_size=1, statement_timeout_ms=10_000)
    try:
        await migrate(database)
    finally:
        await database.close()


def _serve_alone(settings: Settings, report: Report) -> None:
    app = create_app(settings)

    def drain() -> None:
        app.state.operations.draining = True

    config = uvicorn.Config(app, **_options(settings))  # type: ignore[arg-type]
    server = _Server(config, settings.drain_s, drain)
    sock = config.bind_socket()
    try:
        _greet(settings, sock.getsockname()[1], report)
        server.run(sockets=[sock])
    finally:
        sock.close()
    if not server.started:
        raise StartError("the service did not start; the log above says why")


def _serve_workers(settings: Settings, url: str, report: Report) -> None:
    """Several processes on one socket, each with the app of its own."""
    os.environ[variable("database_url")] = url
    options = {**_options(settings), "workers": settings.workers, "factory": True}
    config = uvicorn.Config("app.main:from_environment", **options)  # type: ignore[arg-type]
    sock = config.bind_socket()
    _greet(settings, sock.getsockname()[1], report)
    uvicorn.supervisors.Multiprocess(config, [sock]).run()


def _options(settings: Settings) -> dict[str, object]:
    return {
        "host": settings.host,
        "port": settings.port,
        "loop": "uvloop",
        "http": "httptools",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "timeout_graceful_shutdown": GRACEFUL_STOP_S,
    }


class _Server(uvicorn.Server):
    """A server that says it is not ready for a while before it stops listening."""

    def __init__(self, config: uvicorn.Config, drain_s: float, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._drain = drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()
        if self._drain_s == 0 or self.should_exit:
            super().handle_exit(sig, frame)
            return
        loop = asyncio.get_event_loop()
        loop.call_soon_threadsafe(
            lambda: loop.call_later(self._drain_s, super(_Server, self).handle_exit, sig, frame)
        )


def _greet(settings: Settings, port: int, report: Report) -> None:
    host = settings.host if ":" not in settings.host else f"[{settings.host}]"
    url = f"http://{host}:{port}"
    report(f"Syncline listens on {url}")
    report(f"  API docs   {url}/docs")
    report(f"  console    {url}/console (not in this version yet)")
    report("  a token    syncline token ACCOUNT")
    report("  a demo     syncline demo")


def _warn_of_development_secret(settings: Settings, report: Report) -> None:
    secret = hs256_secret(settings)
    if secret is not None and settings.jwt_secret is None:
        report(
            f"Tokens are signed with a development secret kept in {settings.data_path}; "
            "set SYNCLINE_JWT_SECRET or SYNCLINE_JWKS_URL before real people use this."
        )


# --- a service for the demo -------------------------------------------------------------------


@dataclass(frozen=True)
class RunningService:
    """Where a service listens, and the secret with which it checks tokens."""

    url: str
    secret: str
    audience: str | None = None
    issuer: str | None = None

    def token(self, account: str) -> str:
        return mint(
            self.secret,
            account,
            ttl_s=TOKEN_TTL_S,
            now_ms=system_clock(),
            audience=self.audience,
            issuer=self.issuer,
        )


@contextmanager
def running_service(
    settings: Settings, url: str | None, report: Report
) -> Iterator[RunningService]:
    """The service that is asked for or runs on the set port; else a fresh one, for a while."""
    address = url or f"http://{settings.host}:{settings.port}"
    secret = hs256_secret(settings)
    if secret is not None and _is_syncline(address):
        service = RunningService(
            address.rstrip("/"), secret, settings.jwt_audience, settings.jwt_issuer
        )
        if _accepts(service):
            report(f"Using the service at {address}.")
            yield service
            return
    if url is not None:
        raise StartError(f"no service at {url} that accepts a token of this folder's secret")
    with TemporaryDirectory(prefix="syncline-", ignore_cleanup_errors=True) as folder:
        report("Starting a service of its own, with an empty database.")
        yield from _temporary(Path(folder))


def _temporary(folder: Path) -> Iterator[RunningService]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SYNCLINE_")}
    environment |= {"SYNCLINE_DATA_DIR": str(folder), "SYNCLINE_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = _announced(process)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_syncline(address) and time.monotonic() < deadline:
            time.sleep(0.05)
        settings = Settings(data_dir=str(folder))
        secret = hs256_secret(settings)
        assert secret is not None
        yield RunningService(address, secret)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(GRACEFUL_STOP_S)


def _announced(process: "subprocess.Popen[str]") -> str:
    """The address in the greeting of a service that is starting."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("Syncline listens on "):
            return line.rpartition(" ")[2].strip()
    raise StartError("the service did not start:\n" + "".join(said))


def _is_syncline(address: str) -> bool:
    try:
        answer = httpx.get(f"{address}/livez", timeout=2.0)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.text == '{"status":"alive"}'


def _accepts(service: RunningService) -> bool:
    headers = {"Authorization": f"Bearer {service.token('demo')}"}
    try:
        answer = httpx.get(f"{service.url}/v1/documents", headers=headers, timeout=5.0)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200
