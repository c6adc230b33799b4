"""The SQL of what operators ask about all accounts: bounded by bytes read, whatever there is."""

from typing import Any

SHARE = """
select least(100.0, 100.0 * $2::bigint / greatest(pg_relation_size($1::text::regclass), 1))::real
"""
"""Per cent of the blocks of a table that are so many bytes."""
KEYS = """
select case when strpos(key, ':') > 0 then split_part(key, ':', 1) || ':*' else key end as pattern,
       count(*) as documents, count(*) filter (where value is null) as deleted,
       avg(version)::float8 as average_version, max(version) as highest_version
from documents tablesample system ($1)
group by 1 order by 2 desc, 1 limit $2
"""
MERGED = """
with often as (
    select account, key from revisions tablesample system ($1)
    where outcome = 'merged' group by account, key order by count(*) desc limit $2
)
select d.account, d.key, d.version, count(*) as kept,
       count(*) filter (where r.outcome = 'merged') as merged
from often
join documents d on d.account = often.account and d.key = often.key
join revisions r on r.account = d.account and r.key = d.key and r.version > d.version - $3
group by d.account, d.key, d.version
order by merged desc, d.version desc, d.account, d.key limit $4
"""
REJECTED_BY_CODE = """
select code, sum(count)::bigint as times, count(distinct account) as accounts,
       max(last_at_ms) as last_at_ms
from rejections tablesample system ($1) group by code order by 2 desc, 1
"""
REJECTED_MOST = """
select account, key, code, count as times, last_at_ms from rejections tablesample system ($1)
order by count desc, account, key, code limit $2
"""
DEVICES = """
select count(*) as devices, count(*) filter (where last_seen_ms >= $2) as seen_last_day,
       count(*) filter (where last_seen_ms >= $3) as seen_last_month,
       count(*) filter (where pending > 0) as waiting, coalesce(sum(pending), 0)::bigint as pending
from devices tablesample system ($1)
"""
_TOLD = """
select d.account, d.device, d.accepted, d.first_seen_ms, d.last_seen_ms, d.cursor_seq, d.pending,
       d.told_at_ms,
       case when d.cursor_seq is not null then greatest(
           0, (select seq from heads where account = d.account) - d.cursor_seq
       ) end as behind
from devices d"""
BEHIND = f"""{_TOLD} tablesample system ($1)
where d.cursor_seq is not null and d.last_seen_ms >= $2
order by behind desc nulls last, d.account, d.device limit $3
"""
WAITING = f"""{_TOLD} tablesample system ($1)
where d.pending > 0 order by d.pending desc, d.account, d.device limit $2
"""
OF_ACCOUNT = f"""{_TOLD}
where d.account = $1 order by d.last_seen_ms desc, d.device limit $2
"""
HEAD = "select seq from heads where account = $1"


async def share(connection: Any, table: str, most_bytes: int) -> float:
    """Per cent of the table's blocks that may be read."""
    percent: float = await connection.fetchval(SHARE, table, most_bytes)
    return percent


async def keys(connection: Any, percent: float, limit: int) -> list[Any]:
    rows: list[Any] = await connection.fetch(KEYS, percent, limit)
    return rows


async def merged(
    connection: Any, percent: float, candidates: int, history: int, limit: int
) -> list[Any]:
    """Documents that merged most among their kept versions: looked for in a sample, then
    counted."""
    rows: list[Any] = await connection.fetch(MERGED, percent, candidates, history, limit)
    return rows


async def rejected_by_code(connection: Any, percent: float) -> list[Any]:
    rows: list[Any] = await connection.fetch(REJECTED_BY_CODE, percent)
    return rows


async def rejected_most(connection: Any, percent: float, limit: int) -> list[Any]:
    rows: list[Any] = await connection.fetch(REJECTED_MOST, percent, limit)
    return rows


async def devices(connection: Any, percent: float, day_ms: int, month_ms: int) -> Any:
    """Counts of devices; `day_ms`, `month_ms`: the times that are so long ago."""
    return await connection.fetchrow(DEVICES, percent, day_ms, month_ms)


async def behind(connection: Any, percent: float, since_ms: int, limit: int) -> list[Any]:
    rows: list[Any] = await connection.fetch(BEHIND, percent, since_ms, limit)
    return rows


async def waiting(connection: Any, percent: float, limit: int) -> list[Any]:
    rows: list[Any] = await connection.fetch(WAITING, percent, limit)
    return rows


async def of_account(connection: Any, account: str, limit: int) -> tuple[int, list[Any]]:
    """The sequence of an account, 0 if it has none, and its devices, last seen first."""
    head = await connection.fetchval(HEAD, account)
    return head or 0, await connection.fetch(OF_ACCOUNT, account, limit)
