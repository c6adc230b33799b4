"""What an operator does from the command line, without a service that runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.clock import system_clock
from app.database.engine import Database
from app.errors import Code, SynclineError
from app.progress.levels import Levels
from app.progress.types import PublishLevels
from app.requests import decode_body
from app.settings import Settings

STATEMENT_TIMEOUT_MS = 60_000


def read_catalogue(path: Path, version: int | None) -> PublishLevels:
    """The catalogue of a JSON file, of the same form as the body of `PUT /v1/admin/levels`.

    Raises SynclineError that says what is wrong with it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SynclineError(Code.INVALID_REQUEST, f"{path}: {error.strerror}") from error
    body = decode_body(text, PublishLevels)
    return body if version is None else PublishLevels(body.levels, version)


async def publish_levels(settings: Settings, url: str, body: PublishLevels, out: Console) -> None:
    """Publishes the catalogue, if it is another than the newest one."""
    database = Database(url, pool_size=1, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    try:
        levels = Levels(database, system_clock, settings.max_levels)
        published = await levels.publish(body)
    finally:
        await database.close()
    _say(out, f"Catalogue {published.version} has these {len(body.levels)} levels.")


async def list_levels(settings: Settings, url: str, out: Console) -> None:
    """Shows the newest catalogue."""
    database = Database(url, pool_size=1, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    try:
        catalogue = await Levels(database, system_clock, settings.max_levels).catalogue()
    finally:
        await database.close()
    if catalogue.version == 0:
        _say(out, "No catalogue was published yet: see `syncline levels publish`.")
        return
    rows = [
        (entry.level, str(entry.min_correct), str(entry.xp_reward), entry.repeat)
        for entry in catalogue.levels
    ]
    out.print(table(("Level", "Correct answers", "XP", "Rewarded"), rows))
    _say(out, f"Catalogue {catalogue.version}: {len(rows)} levels.")


def table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    """A table of plain text: what looks like markup is shown as it is."""
    made = Table()
    for number, heading in enumerate(headings):
        made.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _say(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
