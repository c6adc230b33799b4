"""Whether the ledger adds up: totals are sums of events, and what is made of them agrees."""

from collections.abc import Sequence
from typing import Any

from app.ledger import audit_store as store
from app.ledger.types import Audit, TotalAudit


async def audit_account(connection: Any, account: str) -> Audit:
    """Every total of an account beside the sum of what its events added."""
    totals = [TotalAudit(*row[1:]) for row in await store.read_totals(connection, [account])]
    differences = [one for one in totals if one.total != one.sum]
    events = next((one.sum for one in totals if one.name == "events"), 0)
    return Audit(not differences, events, totals, differences)


async def find_differences(
    connection: Any, accounts: Sequence[str]
) -> tuple[int, list[tuple[str, str]]]:
    """How many totals there are, and an account and a sentence for each that does not add up."""
    totals = await store.read_totals(connection, accounts)
    found = [
        (account, f"the total {name!r} is {total}, and its events add up to {added}")
        for account, name, total, added in totals
        if total != added
    ]
    for account, board, score, total in await store.read_wrong_standings(connection, accounts):
        kept = "there is no score" if score is None else f"the score is {score}"
        found.append((account, f"{kept} on {board!r}, and the total is {total}"))
    for account, board, listed in await store.read_wrong_listings(connection, accounts):
        seen = "shown" if listed else "hidden"
        found.append((account, f"the score on {board!r} is {seen}, and `player` says otherwise"))
    for account, name, shown, total in await store.read_wrongly_shown(connection, accounts):
        shows = f"does not show {name!r}" if shown is None else f"shows {shown} for {name!r}"
        found.append((account, f"`totals` {shows}, and the total is {total}"))
    return len(totals), found
