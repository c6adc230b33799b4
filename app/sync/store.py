"""The SQL of pulling changes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from app.database.era import NEWEST_ERA

PULL = """
select w.number, (select era from eras order by began_at_ms desc, era desc limit 1) as era,
       coalesce(h.seq, 0) as head, d.key, d.seq, d.version, d.value::text, d.device,
       d.updated_at_ms
from unnest($2::text[], $3::bigint[], $4::int[], $5::bigint[])
     with ordinality w (account, after, most, max_bytes, number)
left join heads h on h.account = w.account and h.account = any($1)
left join lateral (
    select *, sum(coalesce(pg_column_size(value), 0)) over (order by seq)
              - coalesce(pg_column_size(value), 0) as before
    from documents where account = w.account and seq > w.after and h.seq > w.after
    order by seq limit w.most
) d on d.before < w.max_bytes
order by w.number, d.seq
"""
FIRST_OF = "select min(seq) from documents where account = $1 and key = any($2)"


@dataclass(frozen=True, slots=True)
class Pull:
    """Asks for the changes of an account after a sequence: so many, and of so many bytes."""

    account: str
    after: int
    limit: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Page:
    """Changes of an account, of one moment; `more` wait behind them."""

    era: str
    head: int
    rows: list[Any]
    more: bool


async def newest_era(connection: Any) -> str:
    era: str = await connection.fetchval(NEWEST_ERA)
    return era


async def first_seq(connection: Any, account: str, keys: Collection[str]) -> int:
    """The sequence of that one of these documents which was changed first."""
    seq: int = await connection.fetchval(FIRST_OF, account, list(keys))
    return seq


async def read_changes(connection: Any, pulls: Sequence[Pull]) -> Sequence[Page]:
    """The documents that were changed after a sequence, for each pull.

    One statement, so all are of one moment: no change can hide between them, and no restore
    between the era and the sequence. The documents of an account are few, so they are scanned
    if its head says that there are new ones; an index on seq would make every write dearer. The
    database stops by stored size, before it sends what will not be answered.
    """
    accounts = sorted({pull.account for pull in pulls})
    columns = zip(
        *((one.account, one.after, one.limit + 1, one.max_bytes) for one in pulls), strict=True
    )
    rows = iter(await connection.fetch(PULL, accounts, *columns))
    by_number = {number: list(group) for number, group in groupby(rows, itemgetter("number"))}
    return [_page(pull, by_number[number]) for number, pull in enumerate(pulls, 1)]


def _page(pull: Pull, rows: Sequence[Any]) -> Page:
    era, head = rows[0]["era"], rows[0]["head"]
    changes: list[Any] = []
    size = 0
    for row in rows:
        if row["key"] is None:
            break
        size += len((row["value"] or "").encode())
        if changes and (len(changes) == pull.limit or size > pull.max_bytes):
            return Page(era, head, changes, True)
        changes.append(row)
    # The last row sent may be where the database stopped, not where the changes end: the last
    # change of an account always has the sequence of its head.
    return Page(era, head, changes, bool(changes) and changes[-1]["seq"] < head)
