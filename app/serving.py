"""Starting the service: database, listening, stopping in good order."""

import asyncio
import gc
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import httpx
import msgspec
import uvicorn
from litestar import Litestar
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.auth.secret import admin_token, hs256_secret
from app.auth.tokens import mint
from app.clock import system_clock
from app.command import command
from app.database import embedded
from app.database.engine import Database
from app.database.migrate import migrate, present_revision
from app.database.roles import act_as_service
from app.database.trouble import describe
from app.documents.rules import load_registry, remember_rules
from app.http_protocol import BoundedHttpProtocol
from app.logs import log_to_stderr
from app.main import MEETING, StartError, check_database, create_app, from_environment
from app.settings import Settings, load_settings, variable
from app.socket_protocol import SocketProtocol
from merge_rules.registry import Registry

Report = Callable[[str], None]

GRACEFUL_STOP_S = 30
LISTEN_BACKLOG = 2048
START_TIMEOUT_S = 60.0
TOKEN_TTL_S = 3_600
YOUNG_OBJECTS = 50_000
"""How many new objects the collector of cycles waits for: more than a batch makes and drops again.
Looking at a million took 0.6 s."""


@contextmanager
def database_url(settings: Settings, report: Report) -> Iterator[str]:
    """The URL of the database: the one that was set, or the embedded one while this lasts.

    Raises StartError if the one that was set cannot be used.
    """
    if settings.database_url is not None:
        asyncio.run(_require_reachable(settings.database_url))
        yield settings.database_url
        return
    with embedded.start(settings.data_path, report=report) as cluster:
        yield cluster.url


def serve(settings: Settings, report: Report) -> None:
    """Serves until a signal asks to stop; what is in flight is answered first."""
    log_to_stderr()
    _allow_many_files()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    registry = load_registry(settings)
    with database_url(settings, report) as url:
        if settings.database_url is None:
            asyncio.run(_bring_up_to_date(url))
        else:
            asyncio.run(_require_up_to_date(url))
        asyncio.run(_remember_rules(url, registry))  # refused changes show here, too
        settings = msgspec.structs.replace(settings, database_url=url)
        _warn_of_development_secret(settings, report)
        _show_new_admin_token(settings, report)
        app = create_app(settings)  # what is wrong shows here, and not after the greeting
        with _listen(settings) as sock:
            _greet(settings, sock.getsockname()[1], report)
            if settings.workers == 1:
                _serve_alone(settings, app, sock)
            else:
                _serve_workers(settings, url, sock)


def _allow_many_files() -> None:
    """As many as this user may have: each socket takes one, and the default is often 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems name a limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _leave(number: int, frame: FrameType | None) -> None:
    """A signal at any time but while serving: everything is closed, and that is a good end."""
    sys.exit(0)


async def _require_reachable(url: str) -> None:
    try:
        await _present_revision(url)
    except Exception as error:  # whatever the driver, the address or the server says
        raise StartError(f"the database cannot be used: {describe(error)}") from error


async def _require_up_to_date(url: str) -> None:
    database = Database(url, pool_size=1, statement_timeout_ms=10_000, on_connect=act_as_service)
    try:
        await check_database(database)
    finally:
        await database.close()


async def _present_revision(url: str) -> str | None:
    database = Database(url, pool_size=1, statement_timeout_ms=10_000)
    try:
        async with database.connection() as connection:
            return await present_revision(connection)
    finally:
        await database.close()


async def _remember_rules(url: str, registry: Registry) -> None:
    database = Database(url, pool_size=1, statement_timeout_ms=60_000)
    try:
        await remember_rules(database, registry, system_clock)
    finally:
        await database.close()


async def _bring_up_to_date(url: str) -> None:
    database = Database(url, pool_size=1, statement_timeout_ms=10_000)
    try:
        await migrate(database)
    finally:
        await database.close()


def _listen(settings: Settings) -> socket.socket:
    """The socket; what connects from now on waits until the service is up."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host, settings.port)
    try:
        return socket.create_server(address, family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise StartError(
            f"cannot listen on {base_url(*address)}: {reason}; stop what uses it, or set "
            f"{variable('host')} and {variable('port')} to another address"
        ) from error


def _collect_seldom() -> None:
    """Lets the collector of cycles look less often, and not at what lives as long as the process.

    By default it looks after every 700 new objects, a few requests' worth, and ever again walks
    through the documents that are kept in memory.
    """
    with _stops_wait():
        gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 2, 100)


@contextmanager
def _stops_wait() -> Iterator[None]:
    """Delivers signals to stop when this ends: what a handler raises while a finaliser runs is
    dropped by Python, and the stop with it."""
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda which, _: came.append(which))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for which in came:
            signal.raise_signal(which)


def _serve_alone(settings: Settings, app: Litestar, sock: socket.socket) -> None:
    _collect_seldom()
    server = uvicorn.Server(_config(settings, lambda: _drains_first(app, settings.drain_s)))
    server.run(sockets=[sock])


def _serve_workers(settings: Settings, url: str, sock: socket.socket) -> None:
    """Several processes on one socket, each with the app of its own, and a folder to meet in."""
    os.environ[variable("database_url")] = url
    workers = _Workers(_config(settings, "app.serving:worker"), [sock])
    with TemporaryDirectory(prefix="syncline-workers-", ignore_cleanup_errors=True) as meeting:
        os.environ[MEETING] = meeting
        workers.run()
    if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
        raise StartError("a worker did not start; the log above says why")


class _Workers(Multiprocess):
    def terminate_all(self) -> None:
        """Lets go of the socket, so that it closes when the last worker stops listening."""
        for sock in self.sockets:
            sock.close()
        super().terminate_all()


def worker() -> Litestar:
    """The app of one worker process, which stops by itself if its parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_stop_after, args=(parent,), daemon=True).start()
    _collect_seldom()
    return _drains_first(from_environment(), load_settings().drain_s)


def _stop_after(parent: BaseProcess) -> None:
    parent.join()
    shutil.rmtree(os.environ[MEETING], ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _drains_first(app: Litestar, drain_s: float) -> Litestar:
    """Makes a signal to stop turn /readyz to 503 first, and stop `drain_s` later.

    The server calls this once its own handlers are set. A second signal stops at once.
    """
    operations, loop = app.state.operations, asyncio.get_running_loop()

    def wrap(stop: Callable[[int, FrameType | None], Any]) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            wait_s = 0.0 if operations.draining else drain_s
            operations.draining = True
            if wait_s == 0:
                stop(number, frame)
            else:
                loop.call_soon_threadsafe(loop.call_later, wait_s, stop, number, None)

        return handle

    for number in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(number)
        assert callable(stop)
        signal.signal(number, wrap(stop))
    return app


def _config(settings: Settings, app: Callable[[], Litestar] | str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        workers=settings.workers,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws=SocketProtocol,
        ws_max_size=settings.live_frame_bytes,
        ws_ping_interval=settings.live_ping_s,
        ws_ping_timeout=settings.live_ping_timeout_s,
        ws_per_message_deflate=False,  # it would take more memory than all else of a socket
        h11_max_incomplete_event_size=settings.max_header_bytes,
        lifespan="on",
        access_log=False,
        proxy_headers=False,  # nobody looks at the client's address
        log_config=None,
        server_header=False,
        backlog=LISTEN_BACKLOG,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
    )


def base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _greet(settings: Settings, port: int, report: Report) -> None:
    url = base_url(settings.host, port)
    report(f"Syncline listens on {url}")
    report(f"  API docs   {url}/docs")
    report(f"  console    {url}/console (not in this version yet)")
    report(f"  a token    {command()} token ACCOUNT")
    report(f"  a demo     {command()} demo")


def _warn_of_development_secret(settings: Settings, report: Report) -> None:
    secret = hs256_secret(settings)
    if secret is not None and settings.jwt_secret is None:
        report(
            f"Tokens are signed with a development secret kept in {settings.data_path}; "
            "set SYNCLINE_JWT_SECRET or SYNCLINE_JWKS_URL before real people use this."
        )


def _show_new_admin_token(settings: Settings, report: Report) -> None:
    token = admin_token(settings)
    if token.made:
        report(f"The admin token, shown this once and kept in {token.path}:")
        report(f"  {token.text}")


# --- a service for the demo -------------------------------------------------------------------


@dataclass(frozen=True)
class RunningService:
    """Where a service listens, and the secret with which it checks tokens."""

    url: str
    secret: str
    audience: str | None = None
    issuer: str | None = None
    temporary: bool = False

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
    address = (url or base_url(settings.host, settings.port)).rstrip("/")
    if _is_syncline(address) and (secret := hs256_secret(settings)) is not None:
        service = RunningService(address, secret, settings.jwt_audience, settings.jwt_issuer)
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
        # Without -P a folder `app` where the demo is run would be taken for this one.
        [sys.executable, "-P", "-m", "app.cli", "serve"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = _announced(process)
        secret = hs256_secret(Settings(data_dir=str(folder)))
        assert secret is not None
        _await_ready(address, process)
        yield RunningService(address, secret, temporary=True)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=GRACEFUL_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _await_ready(address: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _is_syncline(address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise StartError("the service for the demo does not answer; try `syncline serve`")
        time.sleep(0.05)


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
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.status_code == 200 and answer.text == '{"status":"alive"}'


def _accepts(service: RunningService) -> bool:
    headers = {"Authorization": f"Bearer {service.token('demo')}"}
    try:
        answer = httpx.get(f"{service.url}/v1/documents", headers=headers, timeout=5.0)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200
