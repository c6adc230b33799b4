"""The statements that a service sends, as PostgreSQL itself logs them: no driver can hide one."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from app.database import era, roles
from app.live import store as live
from tests.sync.database import administer, fetch

ENTRY = re.compile(r"\] LOG:  (?:statement|execute [^:]*): (.*)")


def first_line(sql: str) -> str:
    return sql.strip().partition("\n")[0].strip()


SET_UP = {
    first_line(sql)
    for sql in (era.PRESENT, era.DATABASE, era.CLUSTER, era.NEWEST, roles.IS_GRANTED, roles.BECOME)
}
"""What each new connection asks once: not the cost of a request."""
BEHIND = {
    first_line(sql)
    for sql in (
        live.BEAT,
        live.BURY,
        live.MOVED,
        live.NOTIFY,
        live.ALIVE,
        live.LISTEN_ASYNC,
        live.LEAVE_ALL,
        live.END,
    )
}
"""What the process says to the others, and asks of them, however few or many requests come."""
DRIVER = ("SELECT", "WITH RECURSIVE", "LISTEN")
"""How the questions begin that asyncpg itself asks about types, also once a connection; ours are
not in capitals."""


class StatementLog:
    """What one database is asked; all sessions that begin after `watch` are seen."""

    def __init__(self, database_url: str) -> None:
        (row,) = fetch(database_url, "select current_setting('data_directory')")
        self._file = Path(row[0]).parent / "postgres.log"
        self._url = database_url

    def watch(self) -> None:
        name = urlsplit(self._url).path.removeprefix("/")
        administer(self._url, f"alter database \"{name}\" set log_statement = 'all'")

    @contextmanager
    def recorded(self) -> Iterator[list[str]]:
        """Filled, when the block ends, with the first line of each statement sent in it."""
        statements: list[str] = []
        start = self._file.stat().st_size
        yield statements
        time.sleep(0.05)  # what a session writes to its log may arrive after its answer
        lines = self._file.read_bytes()[start:].decode(errors="replace").splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            found = ENTRY.search(line)
            if found is not None:
                text = found[1].strip() or following.strip()
                if text not in SET_UP | BEHIND and not text.startswith(DRIVER):
                    statements.append(text)
