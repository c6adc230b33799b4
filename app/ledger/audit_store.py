"""Whether what is stored adds up: the SQL that proves it, for one account or all."""

from collections.abc import Sequence
from typing import Any

from app.ledger.types import Audit, TotalAudit

TOTALS = """
with added as (
    select e.account, x.key as name, sum(x.value::numeric) as amount
    from events e cross join lateral json_each_text(e.effects) x
    where e.account = any($1) group by 1, 2
    union all
    select account, 'events', count(*) from events where account = any($1) group by 1
), counted as (
    select account, name, amount from totals where account = any($1)
)
select coalesce(c.account, a.account), coalesce(c.name, a.name), coalesce(c.amount, 0)::text,
       coalesce(a.amount, 0)::text
from counted c full join added a on a.account = c.account and a.name = c.name
order by 1, coalesce(c.name, a.name) collate "C"
"""


async def read_totals(connection: Any, accounts: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Every total, as it is kept and as the events add up: account, name, total, sum.

    One statement, so both are of one moment, whatever is being written.
    """
    rows = await connection.fetch(TOTALS, accounts)
    return [(row[0], row[1], int(row[2]), int(row[3])) for row in rows]


async def audit_account(connection: Any, account: str) -> Audit:
    totals = [TotalAudit(*row[1:]) for row in await read_totals(connection, [account])]
    differences = [one for one in totals if one.total != one.sum]
    events = next((one.sum for one in totals if one.name == "events"), 0)
    return Audit(not differences, events, totals, differences)
