"""What an import came to, for the operator who reads it."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.operations.importing.mapping import Mapping
from app.operations.importing.tally import Tally
from app.tables import line, table

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
    if tally.outcomes:
        out.print(_outcomes(tally))
    if tally.rejected:
        out.print(_rejections(tally))
    for column, count in sorted(tally.left_out.items()):
        why = mapping.leave_out.get(column, "the mapping does not name it")
        line(out, f"Left out: {column}, in {count:,} rows: {why}")
    if tally.passed_over:
        columns = ", ".join(mapping.only_if_empty)
        line(out, f"Passed over: {tally.passed_over:,} rows that hold something in {columns}")
    if tally.rejections:
        line(out, f"Rejected: {tally.rejections:,}, each in {rejects}")
    what = "would be imported; nothing was written" if dry_run else "are imported"
    line(out, f"{tally.rows:,} rows of {source} {what}.")


def _outcomes(tally: Tally) -> Table:
    met = {name for counts in tally.outcomes.values() for name in counts}
    names = [name for name in OUTCOMES if name in met]
    return table(
        ("What", *(OUTCOMES[name] for name in names)),
        [
            (target, *(f"{counts.get(name, 0):,}" for name in names))
            for target, counts in sorted(tally.outcomes.items())
        ],
    )


def _rejections(tally: Tally) -> Table:
    rows = [
        (count, target, reason)
        for target, reasons in tally.rejected.items()
        for reason, count in reasons.items()
    ]
    shown = sorted(rows, key=lambda row: (-row[0], row[1:]))[:SHOWN]
    return table(
        ("Rejected", "Why", "How many"),
        [(target, reason, f"{count:,}") for count, target, reason in shown],
    )
