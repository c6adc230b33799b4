"""`syncline levels`: the catalogue, from a file and to the eye."""

from pathlib import Path

from rich.console import Console

from app.clock import system_clock
from app.database.engine import Database
from app.errors import Code, SynclineError
from app.progress.levels import Levels
from app.progress.types import PublishLevels
from app.requests import decode_body
from app.settings import Settings
from app.tables import line, table

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
    line(out, f"Catalogue {published.version} has these {len(body.levels)} levels.")


async def list_levels(settings: Settings, url: str, out: Console) -> None:
    """Shows the newest catalogue."""
    database = Database(url, pool_size=1, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    try:
        catalogue = await Levels(database, system_clock, settings.max_levels).catalogue()
    finally:
        await database.close()
    if catalogue.version == 0:
        line(out, "No catalogue was published yet: see `syncline levels publish`.")
        return
    rows = [
        (entry.level, str(entry.min_correct), str(entry.xp_reward), entry.repeat)
        for entry in catalogue.levels
    ]
    out.print(table(("Level", "Correct answers", "XP", "Rewarded"), rows))
    line(out, f"Catalogue {catalogue.version}: {len(rows)} levels.")
