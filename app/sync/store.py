"""The SQL of pulling changes."""

from typing import Any

PULL = """
select h.seq as head, d.key, d.seq, d.version, d.value::text, d.device, d.updated_at_ms
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


async def read_changes(
    connection: Any, account: str, after: int, limit: int, max_bytes: int
) -> tuple[int, list[Any], bool]:
    """The head of the account, its documents changed after a sequence, and whether more wait.

    One statement, so all are of one moment: no change can hide between them. The documents of
    an account are few, so they are scanned; an index on seq would make every write dearer.
    The database stops by stored size, before it sends what will not be answered.
    """
    rows = await connection.fetch(PULL, account, after, limit + 1, max_bytes)
    if not rows:
        return 0, [], False
    head = rows[0]["head"]
    changes: list[Any] = []
    size = 0
    for row in rows:
        if row["key"] is None:
            break
        size += len((row["value"] or "").encode())
        if changes and (len(changes) == limit or size > max_bytes):
            return head, changes, True
        changes.append(row)
    # The last row sent may be where the database stopped, not where the changes end: the last
    # change of an account always has the sequence of its head.
    more = bool(changes) and changes[-1]["seq"] < head
    return head, changes, more
