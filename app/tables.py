"""Tables for people, on the command line."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of plain text: what looks like markup, such as [null], is shown as it is."""
    made = Table()
    for number, heading in enumerate(headings):
        made.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def line(out: Console, text: str) -> None:
    """A line of plain text, however long."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)
