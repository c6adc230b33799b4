"""The statements that a service sends, as PostgreSQL itself logs them: no driver can hide one."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from app.database import era, roles
from app.documents import statements
from app.live import store as live
from app.operations import store as operations_store
from tests.sync.database import administer, fetch

ENTRY = re.compile(r"\] LOG:  (?:statement|execute [^:]*): (.*)")


def first_line(sql: str) -> str:
    return sql.strip().partition("\n")[0].strip()


SET_UP = {
    first_line(sql)
    for sql in (era.PRESENT, era.DATABASE, era.CLUSTER, era.NEWEST, roles.IS_GRANTED, roles.BECOME)
}
"""What each new connection asks once: not the cost of a request."""
NOW_AND_THEN = (
    statements.READ_SIDECAR_SIZES,
    statements.PRUNE_MUTATIONS,
    statements.PRUNE_PROPOSALS,
    operations_store.UPDATE_DEVICES,
    operations_store.ADD_DEVICE,
    operations_store.WRITE_REJECTIONS,
    operations_store.FORGET_REJECTIONS,
    live.BEAT,
    live.BURY,
    live.MOVED,
    live.NOTIFY,
    live.ALIVE,
    live.LISTEN_ASYNC,
    live.LEAVE_ALL,
    live.END,
)
BY_THE_WAY = SET_UP | {first_line(sql) for sql in NOW_AND_THEN}
"""And what a process asks or writes by its own clock, when it happens to be just then."""
DRIVER = ("SELECT", "WITH RECURSIVE", "LISTEN")
"""How the questions begin that asyncpg itself asks about types, also once a connection; ours are
not in capitals."""


class StatementLog:
    """What one database is asked; all sessions that begin after `watch` are seen."""

    def __init__(self, database_url: str) -> None:
        (row,) = fetch(database_url, "select current_setting('data_directory')")
        self._file = Path(row[0]).parent / "postgres.log"
        self.url = database_url

    def watch(self) -> None:
        name = urlsplit(self.url).path.removeprefix("/")
        administer(self.url, f"alter database \"{name}\" set log_statement = 'all'")

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
                if text not in BY_THE_WAY and not text.startswith(DRIVER):
                    statements.append(text)
