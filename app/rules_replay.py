"""`syncline rules replay`: which documents would differ under changed rules, before they serve."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from app.database.engine import Database
from app.documents import archive_store
from app.documents.replay import Replayed, replay_all
from merge_rules.canonical import encode
from merge_rules.documents import shipped_registry
from merge_rules.registry import load_rules
from merge_rules.rule import ABSENT


async def replay_module(url: str, module: str, show: int, out: Console) -> None:
    """Replays every document and prints what would differ, the first `show` of it path by path.

    Raises RegistryError if the module cannot be loaded. Nothing is written.
    """
    registry = shipped_registry()
    load_rules(registry, module)
    database = Database(url, pool_size=1, statement_timeout_ms=60_000)
    replayed = changed = 0
    differing: list[Replayed] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    try:
        async with database.connection() as connection:
            total = await archive_store.count_all(connection)
        with Progress(
            *columns, console=out, transient=True, disable=not out.is_terminal
        ) as progress:
            task = progress.add_task("documents", total=total)
            async for one in replay_all(database, registry):
                progress.advance(task)
                replayed += 1
                changed += one.rule_changed
                if one.differences or one.problem:
                    differing.append(one)
    finally:
        await database.close()
    refused = sum(one.problem is not None for one in differing)
    if differing:
        out.print(_table(differing[:show]))
    if len(differing) > show:
        out.print(f"… and {len(differing) - show} more documents.")
    out.print(
        f"{replayed} documents, {changed} of them under a rule that {module} changes: "
        f"{len(differing) - refused} would differ, {refused} cannot be replayed.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _table(differing: list[Replayed]) -> Table:
    table = Table()
    for number, heading in enumerate(("Account", "Document", "Path", "Stored", "Replayed")):
        table.add_column(heading, no_wrap=number < 2, overflow="fold")
    for one in differing:
        place = (Text(one.account), Text(one.key))
        if one.problem is not None:
            table.add_row(*place, "", "", Text(one.problem))
        for difference in one.differences:
            values = (_shown(difference.stored), _shown(difference.replayed))
            table.add_row(*place, Text(difference.path or "(whole)"), *map(Text, values))
    return table


def _shown(value: object) -> str:
    return "-" if value is ABSENT else encode(value).decode()
