"""The SQL that proves the ledger: totals against events, standings and documents against totals."""

from collections.abc import Sequence
from typing import Any

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
STANDINGS = """
select s.account collate "default", s.board, s.score, t.amount
from standings s left join totals t on t.account = s.account collate "default" and t.name = s.board
where s.account = any($1) and s.score is distinct from t.amount
union all
select t.account, t.name, null, t.amount from totals t
where t.account = any($1) and t.name = 'xp' and t.amount <> 0 and not exists (
    select from standings s where s.account = t.account collate "C" and s.board = t.name
)
"""
LISTINGS = """
select s.account collate "default", s.board, s.listed
from standings s
left join documents d on d.account = s.account collate "default" and d.key = 'player'
where s.account = any($1)
  and s.listed = ((d.value -> 'listed')::text is not distinct from 'false')
"""
SHOWN = """
with shown as (
    select d.account, x.key as name, x.value
    from documents d cross join lateral json_each_text(d.value) x
    where d.account = any($1) and d.key = 'totals'
), counted as (
    select account, name, amount from totals where account = any($1) and strpos(name, ':') = 0
)
select coalesce(s.account, c.account), coalesce(s.name, c.name), s.value,
       coalesce(c.amount, 0)::text
from shown s full join counted c on c.account = s.account and c.name = s.name
where s.value is distinct from coalesce(c.amount, 0)::text
"""


async def read_totals(connection: Any, accounts: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """Every total, as it is kept and as the events add up: account, name, total, sum.

    One statement, so both are of one moment, whatever is being written.
    """
    rows = await connection.fetch(TOTALS, accounts)
    return [(row[0], row[1], int(row[2]), int(row[3])) for row in rows]


async def read_wrong_standings(connection: Any, accounts: Sequence[str]) -> list[Any]:
    """Scores that are not the total of that name, or are missing (None): account, board, score,
    total. Those of weeks may be missing, since old weeks are pruned."""
    rows: list[Any] = await connection.fetch(STANDINGS, accounts)
    return rows


async def read_wrong_listings(connection: Any, accounts: Sequence[str]) -> list[Any]:
    """Scores that are shown against the will of `player`, or hidden: account, board, listed."""
    rows: list[Any] = await connection.fetch(LISTINGS, accounts)
    return rows


async def read_wrongly_shown(connection: Any, accounts: Sequence[str]) -> list[Any]:
    """What the document `totals` says otherwise, or does not say (None): account, name, shown,
    total."""
    rows: list[Any] = await connection.fetch(SHOWN, accounts)
    return rows
