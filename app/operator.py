"""What an operator does from the command line, without a service that runs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.clock import system_clock
from app.database.engine import Database
from app.errors import Code, SynclineError
from app.operations.stats import AccountDevices, DeviceStatus, Statistics, Stats
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


async def show_stats(
    settings: Settings, url: str, account: str | None, as_json: bool, out: Console
) -> None:
    """Shows what is stored, merged and refused, and which devices lag; or an account's devices."""
    database = Database(url, pool_size=1, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
    try:
        statistics = Statistics(database, system_clock, settings.history)
        found = await (statistics.read() if account is None else statistics.devices(account))
    finally:
        await database.close()
    if as_json:
        _say(out, msgspec.json.encode(found).decode())
    elif isinstance(found, Stats):
        _show_all(found, out)
    else:
        _show_devices(found, out)


def _show_all(stats: Stats, out: Console) -> None:
    shown = (
        (
            ("Documents", "Number", "Deleted", "Version, average", "highest"),
            [
                (g.pattern, g.documents, g.deleted, g.average_version, g.highest_version)
                for g in stats.keys
            ],
        ),
        (
            ("Merged most", "Key", "Version", "Merged", "of kept"),
            [(m.account, m.key, m.version, m.merged, m.kept) for m in stats.merged],
        ),
        (
            ("Refused", "Times", "Accounts", "Last"),
            [(r.code, r.times, r.accounts, _time(r.last_at)) for r in stats.rejected_codes],
        ),
        (
            ("Refused most", "Key", "Code", "Times", "Last"),
            [(r.account, r.key, r.code, r.times, _time(r.last_at)) for r in stats.rejected],
        ),
        (
            ("Furthest behind", *_DEVICE[1:]),
            [(d.account, *_status(d)) for d in stats.behind],
        ),
        (
            ("Most waiting", *_DEVICE[1:]),
            [(d.account, *_status(d)) for d in stats.waiting],
        ),
    )
    for headings, rows in shown:
        if rows:
            out.print(table(headings, [tuple(map(str, row)) for row in rows]))
    counts, sampled = stats.devices, msgspec.structs.asdict(stats.sampled)
    _say(
        out,
        f"{counts.devices} devices, {counts.seen_last_day} of them seen within a day, "
        f"{counts.seen_last_month} within a month; on {counts.waiting} wait {counts.pending}.",
    )
    for name, share in sampled.items():
        if share < 1:
            _say(out, f"Of {name} {share:.1%} was read: counts are scaled up from it.")


def _show_devices(found: AccountDevices, out: Console) -> None:
    out.print(table(_DEVICE[1:], [_status(device) for device in found.devices]))
    _say(out, f"The account has made {found.head} changes.")


_DEVICE = ("Account", "Device", "Seen", "Behind", "Pending", "Told")


def _status(device: DeviceStatus) -> tuple[str, ...]:
    return (
        device.device,
        _time(device.last_seen),
        _text(device.behind),
        _text(device.pending),
        "-" if device.told_at is None else _time(device.told_at),
    )


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


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
