"""`syncline stats`: what is stored, merged and refused, and which devices lag."""

from datetime import UTC, datetime

import msgspec
from rich.console import Console

from app.clock import system_clock
from app.database.engine import Database
from app.operations.stats import AccountDevices, DeviceStatus, Statistics, Stats
from app.settings import Settings
from app.tables import line, table

STATEMENT_TIMEOUT_MS = 60_000


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
        line(out, msgspec.json.encode(found).decode())
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
    line(
        out,
        f"{counts.devices} devices, {counts.seen_last_day} of them seen within a day, "
        f"{counts.seen_last_month} within a month; on {counts.waiting} wait {counts.pending}.",
    )
    for name, share in sampled.items():
        if share < 1:
            line(out, f"Of {name} {share:.1%} was read: counts are scaled up from it.")


def _show_devices(found: AccountDevices, out: Console) -> None:
    out.print(table(_DEVICE[1:], [_status(device) for device in found.devices]))
    line(out, f"The account has made {found.head} changes.")


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
