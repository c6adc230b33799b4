"""What an import came to, for the operator who reads it."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.operations.importing.mapping import Mapping
from app.operations.importing.tally import Tally

SHOWN = 40
"""Kinds of rejections that are shown; the file holds each."""
OUTCOMES = {
    "created": "created",
    "accepted": "counted",
    "applied": "written",
    "merged": "merged",
    "unchanged": "unchanged",
    "duplicate": "known already",
}
"""By name, what the operator reads: in the order of the columns."""


def report(
    tally: Tally, mapping: Mapping, source: str, rejects: Path, out: Console, *, dry_run: bool
) -> None:
    """Counts by target, rejections by reason, and what became nothing."""
    say = Text.assemble
    if tally.outcomes:
        out.print(_outcomes(tally))
    if tally.rejected:
        out.print(_rejections(tally))
    for column, count in sorted(tally.left_out.items()):
        why = mapping.leave_out.get(column, "the mapping does not name it")
        out.print(say(f"Left out: {column}, in {count:,} rows: {why}"), soft_wrap=True)
    if tally.passed_over:
        columns = ", ".join(mapping.only_if_empty)
        out.print(say(f"Passed over: {tally.passed_over:,} rows that hold something in {columns}"))
    if tally.rejections:
        out.print(say(f"Rejected: {tally.rejections:,}, each in {rejects}"), soft_wrap=True)
    what = "would be imported; nothing was written" if dry_run else "are imported"
    out.print(say(f"{tally.rows:,} rows of {source} {what}."), soft_wrap=True)


def _outcomes(tally: Tally) -> Table:
    met = {name for counts in tally.outcomes.values() for name in counts}
    names = [name for name in OUTCOMES if name in met]
    table = Table()
    table.add_column("What")
    for name in names:
        table.add_column(OUTCOMES[name], justify="right")
    for target, counts in sorted(tally.outcomes.items()):
        table.add_row(Text(target), *(f"{counts.get(name, 0):,}" for name in names))
    return table


def _rejections(tally: Tally) -> Table:
    table = Table()
    for heading in ("Rejected", "Why"):
        table.add_column(heading, overflow="fold")
    table.add_column("How many", justify="right")
    rows = [
        (count, target, reason)
        for target, reasons in tally.rejected.items()
        for reason, count in reasons.items()
    ]
    for count, target, reason in sorted(rows, key=lambda row: (-row[0], row[1:]))[:SHOWN]:
        table.add_row(Text(target), Text(reason), f"{count:,}")
    return table
