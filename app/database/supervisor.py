"""The process that keeps the embedded PostgreSQL running while somebody uses it.

`python -m app.database.supervisor JOB`, started by `app.database.embedded`, which explains the
locks. It exits with 0 once it supervises in the background, with LOCKED_BY_ANOTHER when another
one does. It imports little, so that it starts fast and stays small.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from app.database.embedded import (
    CREATING,
    DATABASE,
    FAILED,
    LOCKED_BY_ANOTHER,
    READY,
    RECOVERING,
    STARTING,
    STOPPING,
    USER,
    WAITING,
    Cluster,
    State,
    try_lock,
)
from app.database.privileges import (
    EmbeddedError,
    Programs,
    account_for,
    adopt_orphans,
    end_orphans,
    explain,
    give,
    needs_bypass,
    serves,
)

_POLL_S = 0.02
_IDLE_POLL_S = 0.1
_LOCK_ATTEMPTS = 20
_STOP_S = 60.0  # a fast shutdown writes a checkpoint
_PORT_S = 2.0
_SOCKET_PORT = 5432  # only a part of the socket's name
_SOCKET_BYTES = 107  # sun_path without its end
# Below the ports that the system hands out to clients, which could take ours while we restart.
_PORTS = range(15000, 32000)
_LOG_BYTES = 8 * 1024 * 1024

_SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",  # the supervisor keeps the log small
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
}


class Unused(Exception):
    """Nobody uses the server any more; the lock that says so is ours until we exit."""


class Supervisor:
    """One run over one cluster; the caller holds the supervisor's lock."""

    def __init__(
        self, cluster: Cluster, binaries: Path, options: dict[str, str], token: str
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._state = State(STARTING, token, str(binaries), options)
        self._users = cluster.open(cluster.users)
        self._programs = Programs(binaries)
        self._server: subprocess.Popen[bytes] | None = None

    def publish(self, phase: str, message: str = "") -> None:
        self._state = self._state._replace(phase=phase, message=message)
        self._cluster.write("state.json", json.dumps(self._state._asdict()), durable=False)

    def run(self) -> None:
        """Serve until nobody uses the server. Raises EmbeddedError if it cannot."""
        try:
            lock = self._claim()
            account, folder = self._cluster.account, self._programs.folder
            bypass = needs_bypass(account, (self._cluster.root, folder / "postgres"))
            self._programs = Programs(folder, account, bypass)
            version = self._version()
            if not self._cluster.data.exists():
                self._create(lock)
            self._refuse_other(version)
            settings = self._settings()
            while True:
                self._start(lock, settings)
                self.publish(READY)
                self._watch()
                self.publish(RECOVERING)
                end_orphans()  # busy backends would notice late that their postmaster died
                lock = self._claim()
        except Unused:
            self.publish(STOPPING)
        finally:
            self._stop()

    def _pause(self, seconds: float) -> None:
        if try_lock(self._users, fcntl.LOCK_EX):
            raise Unused
        time.sleep(seconds)

    def _claim(self) -> int:
        """The lock that server processes inherit: having it, there are no others of them."""
        lock = self._cluster.open(self._cluster.server)
        phase = self._state.phase
        while not try_lock(lock, fcntl.LOCK_EX):
            if self._state.phase != WAITING:
                self.publish(WAITING)
            self._pause(_POLL_S)
        self.publish(phase)
        return lock

    # A new cluster

    def _version(self) -> str:
        """The major version of the programs."""
        output = self._programs.output("postgres", "--version")
        found = re.search(r"\) (\d+)", output)
        if found is None:
            raise EmbeddedError(f"{self._programs.folder} holds no PostgreSQL: it says {output!r}.")
        return found[1]

    def _refuse_other(self, version: str) -> None:
        try:
            kept = (self._cluster.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            kept = ""
        if not kept:
            raise EmbeddedError(
                f"{self._cluster.data} holds no PostgreSQL database. Restore it from a backup, "
                "or move it away to begin with an empty database."
            )
        if kept != version:
            raise EmbeddedError(
                f"{self._cluster.data} belongs to PostgreSQL {kept}, but this Syncline brings "
                f"PostgreSQL {version}. Dump it with the Syncline that wrote it and restore it "
                "into a new SYNCLINE_DATA_DIR, or use pg_upgrade."
            )
        if not self._cluster.password.exists():
            raise EmbeddedError(
                f"{self._cluster.password} is missing, the password of the database beside it. "
                "Restore the file, or move the directory away to begin with an empty database."
            )

    def _create(self, lock: int) -> None:
        """Make the cluster aside, and move it into place when it is complete."""
        self.publish(CREATING)
        new = self._cluster.root / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        give(new, self._cluster.account)
        if not self._cluster.password.exists():
            self._cluster.write("password", secrets.token_hex(24) + "\n")
        sync = () if self._options.get("fsync") != "off" else ("--no-sync",)
        self._execute(
            lock,
            "initdb",
            *("-D", f"{new / 'data'}", "-U", USER, f"--pwfile={self._cluster.password}"),
            *("--auth=scram-sha-256", "--no-locale", "--encoding=UTF8", "--data-checksums", *sync),
        )
        self._execute(
            lock,
            "postgres",
            *("--single", "-c", "exit_on_error=on", "-D", f"{new / 'data'}", "template1"),
            text=f"CREATE DATABASE {DATABASE};\n",
        )
        (new / "data").rename(self._cluster.data)
        folder = os.open(self._cluster.root, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        new.rmdir()

    def _execute(self, lock: int, *command: str, text: str = "") -> None:
        before = self._cluster.log.stat().st_size
        process = self._spawn(command, lock, signal.SIGKILL)
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # its status tells more
                process.stdin.write(text.encode())
                process.stdin.close()
            while process.poll() is None:
                self._pause(_POLL_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            raise explain(self._cluster.log, before, "could not create its database")

    # A running server

    def _settings(self) -> list[str]:
        settings = _SETTINGS | {"wal_compression": self._compression()} | self._address()
        return [
            argument
            for name, value in (settings | self._options).items()
            for argument in ("-c", f"{name}={value}")
        ]

    def _compression(self) -> str:
        return "lz4" if "--with-lz4" in self._programs.output("pg_config", "--configure") else "off"

    def _address(self) -> dict[str, str]:
        """A Unix socket in a closed directory, or the loopback if its path is too long."""
        folder = self._cluster.root / "run"
        path = f"{folder}/.s.PGSQL.{_SOCKET_PORT}"
        # Other characters have a meaning in the setting, or in the URL to some clients.
        if len(path) <= _SOCKET_BYTES and re.fullmatch(r"[A-Za-z0-9_./+-]+", path):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                give(folder, self._cluster.account)
            self._state = self._state._replace(host=str(folder), port=_SOCKET_PORT)
            listen, sockets = "", str(folder)
        else:
            self._state = self._state._replace(host="127.0.0.1", port=self._port())
            listen, sockets = self._state.host, ""
        return {
            "listen_addresses": listen,
            "port": str(self._state.port),
            "unix_socket_directories": sockets,
        }

    def _port(self) -> int:
        """The port of the last time, so that URLs stay the same; another if it stays taken."""
        file = self._cluster.root / "port"
        try:
            port = int(file.read_text())
        except (FileNotFoundError, ValueError):
            port = secrets.choice(_PORTS)
        deadline = time.monotonic() + (_PORT_S if file.exists() else 0)
        while not _is_free(port):
            if time.monotonic() > deadline:
                port = secrets.choice(_PORTS)
            self._pause(_POLL_S)
        self._cluster.write("port", f"{port}\n")
        return port

    def _start(self, lock: int, settings: Sequence[str]) -> None:
        """Start the server and wait until it accepts connections, recovered if need be."""
        pid_file = self._cluster.data / "postmaster.pid"
        if pid_file.exists():
            self._clear(pid_file)
            self.publish(RECOVERING)
        # A killed server leaves a lock beside its socket, too, with the same danger.
        for leftover in (self._cluster.root / "run").glob(".s.PGSQL.*"):
            leftover.unlink()
        before = self._cluster.log.stat().st_size
        command = ("postgres", "-D", str(self._cluster.data), *settings)
        # Should this process be killed, the server shuts down, fast and cleanly.
        self._server = self._spawn(command, lock, signal.SIGINT)
        assert self._server.stdin is not None
        self._server.stdin.close()
        os.close(lock)  # from now on the server alone holds it
        while not _is_ready(pid_file, self._server.pid):
            if self._server.poll() is not None:
                raise explain(self._cluster.log, before, "did not start")
            self._pause(_POLL_S)

    def _clear(self, pid_file: Path) -> None:
        """Remove what a killed server left, if its process id is somebody else's by now.

        PostgreSQL itself would refuse to start beside any process of this id and user; it copes
        with the id of a dead one.
        """
        words = pid_file.read_text().split()
        if not words or not words[0].isdigit() or not Path("/proc", words[0]).exists():
            return
        if serves(int(words[0]), self._cluster.data):
            raise EmbeddedError(
                f"A PostgreSQL that Syncline did not start, process {words[0]}, uses "
                f"{self._cluster.data}. Stop it, with `pg_ctl stop -D {self._cluster.data}`."
            )
        pid_file.unlink()

    def _watch(self) -> None:
        """Return when the server has died."""
        assert self._server is not None
        while self._server.poll() is None:
            self._pause(_IDLE_POLL_S)
            self._shorten_log()
        _note(f"the server died with status {self._server.returncode}; starting it again")
        self._server = None

    def _shorten_log(self) -> None:
        """Keep one former part of the log; copied, because the server keeps the file open."""
        log = self._cluster.log
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > _LOG_BYTES:
                with contextlib.suppress(OSError):  # when the disk is full, space matters more
                    shutil.copyfile(log, f"{log}.1")
                os.truncate(log, 0)

    def _stop(self) -> None:
        """Stop the server: fast if it can, else at once."""
        for order, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, 10.0)):
            if self._server is None or self._server.poll() is not None:
                return
            self._server.send_signal(order)
            try:
                self._server.wait(patience_s)
            except subprocess.TimeoutExpired:
                _note(f"the server did not stop within {patience_s:.0f} s")
        if self._server is not None:
            self._server.kill()
            self._server.wait()

    def _spawn(
        self, command: Sequence[str], lock: int, last_signal: int
    ) -> subprocess.Popen[bytes]:
        log = self._cluster.open(self._cluster.log, os.O_WRONLY | os.O_APPEND)
        try:
            return self._programs.start(command, inherited=lock, log=log, last_signal=last_signal)
        finally:
            os.close(log)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the server, our child, says in its file that it accepts connections."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _note(message: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    print(f"{now} supervisor: {message}", file=sys.stderr, flush=True)


def _settle(log: int) -> None:
    """Be a background process that only the end of its users stops."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN, which the server would inherit.
        signal.signal(number, lambda number, _: _note(f"signal {number} ignored: still in use"))
    adopt_orphans()


def _lead(cluster: Cluster) -> None:
    """Hold the supervisor's lock from now on, or exit because another one does."""
    lock = cluster.open(cluster.supervisor)
    attempts = _LOCK_ATTEMPTS  # others try the lock for a moment, to see whether we live
    while not try_lock(lock, fcntl.LOCK_EX):
        attempts -= 1
        if attempts == 0:
            sys.exit(LOCKED_BY_ANOTHER)
        time.sleep(_POLL_S / 4)


def main(job: str) -> NoReturn:
    root, binaries, options, token = json.loads(job)
    os.umask(0o077)
    try:
        cluster = Cluster(Path(root), account_for(Path(root)))
        _lead(cluster)
        supervisor = Supervisor(cluster, Path(binaries), options, token)
        supervisor.publish(STARTING)
        log = cluster.open(cluster.log, os.O_WRONLY | os.O_APPEND)
    except (EmbeddedError, OSError) as error:
        sys.exit(str(error))
    if os.fork() != 0:
        os._exit(0)  # the child holds the lock on
    _settle(log)
    try:
        supervisor.run()
    except EmbeddedError as error:
        supervisor.publish(FAILED, str(error))
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        supervisor.publish(FAILED, f"The embedded database failed: {error!r}. Read {cluster.log}.")
        sys.exit(1)
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
