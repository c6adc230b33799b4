"""Events, totals and standings: from and to the database, a batch at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.ledger import statements as sql
from app.ledger.event_type import Level
from app.ledger.model import Recorded
from app.ledger.work import LedgerWork, Reading
from merge_rules.canonical import decode


async def read(connection: Any, reading: Reading, now_ms: int) -> LedgerWork:
    """What decisions on events need: what was seen, the totals, the levels."""
    work = LedgerWork(now_ms)
    accounts = reading.accounts
    for row in await connection.fetch(sql.READ_SEEN, accounts, *_columns(sorted(reading.ids))):
        work.seen[row[0], row[1]] = Recorded(row[2], decode(row[3].encode()), row[4])
    for row in await connection.fetch(sql.READ_TOTALS, accounts, reading.totals):
        work.totals[row[0], row[1]] = row[2]
    if reading.levels:
        rows = await connection.fetch(sql.READ_LEVELS, reading.levels)
        work.levels = {row[0]: Level(*row) for row in rows}
    return work


def parts(work: LedgerWork) -> Iterator[tuple[str, list[Sequence[Any]]]]:
    """The parts of the one statement that writes a batch, and their columns."""
    standings = work.standings()
    scored: dict[str, list[str]] = {}
    for account, board, *_ in standings:
        scored.setdefault(account, []).append(board)
    yield "events_recorded", _columns(work.new_events)
    yield (
        "totals_changed",
        _columns((*id, work.totals[id]) for id in sorted(work.changed)),
    )
    yield "standings_changed", _columns(standings)
    yield (
        "standings_relisted",
        _columns(
            (account, work.listed[account], " ".join(scored.get(account, ())))
            for account in sorted(work.relisted)
        ),
    )


def _columns(rows: Any) -> list[Sequence[Any]]:
    """Rows as the arrays that `unnest` takes; nothing where there are none."""
    return list(zip(*rows, strict=True))
