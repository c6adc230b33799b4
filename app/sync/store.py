"""The SQL of pulling changes."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

NEWEST_ERA = "select era from eras order by began_at_ms desc, era desc limit 1"
PULL = """
select (select era from eras order by began_at_ms desc, era desc limit 1) as era,
       h.seq as head, d.key, d.seq, d.version, d.value::text, d.device, d.updated_at_ms
from heads h
left join lateral (
    select *, sum(coalesce(pg_column_size(value), 0)) over (order by seq)
              - coalesce(pg_column_size(value), 0) as before
    from documents where account = $1 and seq > $2
    order by seq limit $3
) d on d.before < $4
where h.account = $1
order by d.seq
"""
FIRST_OF = "select min(seq) from documents where account = $1 and key = any($2)"


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


async def read_changes(
    connection: Any, account: str, after: int, limit: int, max_bytes: int
) -> Page:
    """The documents of the account that were changed after a sequence.

    One statement, so all are of one moment: no change can hide between them, and no restore
    between the era and the sequence. The documents of an account are few, so they are scanned;
    an index on seq would make every write dearer. The database stops by stored size, before it
    sends what will not be answered.
    """
    rows = await connection.fetch(PULL, account, after, limit + 1, max_bytes)
    if not rows:
        return Page(await newest_era(connection), 0, [], False)
    era, head = rows[0]["era"], rows[0]["head"]
    changes: list[Any] = []
    size = 0
    for row in rows:
        if row["key"] is None:
            break
        size += len((row["value"] or "").encode())
        if changes and (len(changes) == limit or size > max_bytes):
            return Page(era, head, changes, True)
        changes.append(row)
    # The last row sent may be where the database stopped, not where the changes end: the last
    # change of an account always has the sequence of its head.
    return Page(era, head, changes, bool(changes) and changes[-1]["seq"] < head)
