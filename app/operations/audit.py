"""`syncline audit`: totals = events, versions = revisions, heads = changes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn

from app.database.engine import Database
from app.documents import audit as documents_audit
from app.ledger import audit as ledger_audit

PORTION = 500
"""Accounts that are looked at in one moment."""
SHOWN = 50
"""Differences that are printed."""


@dataclass
class Findings:
    """What was looked at, and each difference: an account and a sentence."""

    accounts: int = 0
    documents: int = 0
    totals: int = 0
    differences: list[tuple[str, str]] = field(default_factory=list)


async def audit(url: str, account: str | None, out: Console) -> Findings:
    """Looks at one account, or all, and prints what does not add up. Nothing is written.

    Each portion of accounts is of one moment, so the service may go on writing.
    """
    database = Database(url, pool_size=1, statement_timeout_ms=300_000)
    findings = Findings()
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed} accounts"))
    try:
        with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
            task = bar.add_task("audit")
            async with database.connection() as connection:
                async for accounts in _portions(connection, account):
                    await _look(connection, accounts, findings)
                    bar.advance(task, len(accounts))
    finally:
        await database.close()
    for name, what in findings.differences[:SHOWN]:
        out.print(f"{name}: {what}", highlight=False, markup=False, soft_wrap=True)
    if len(findings.differences) > SHOWN:
        out.print(f"… and {len(findings.differences) - SHOWN} more.")
    verdict = f"{len(findings.differences)} differences" if findings.differences else "all add up"
    out.print(
        f"{findings.accounts} accounts, {findings.documents} documents, {findings.totals} totals: "
        f"{verdict}.",
        highlight=False,
        soft_wrap=True,
    )
    return findings


async def _portions(connection: Any, account: str | None) -> AsyncIterator[list[str]]:
    if account is not None:
        yield [account]
        return
    after = ""
    while accounts := await documents_audit.next_accounts(connection, after, PORTION):
        yield accounts
        after = accounts[-1]


async def _look(connection: Any, accounts: list[str], findings: Findings) -> None:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        documents, wrong = await documents_audit.find_differences(connection, accounts)
        totals, unequal = await ledger_audit.find_differences(connection, accounts)
    findings.accounts += len(accounts)
    findings.documents += documents
    findings.totals += totals
    findings.differences += [*wrong, *unequal]
