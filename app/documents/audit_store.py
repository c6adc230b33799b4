"""The SQL that proves the documents: their last revisions against them, heads against changes."""

from collections.abc import Sequence
from typing import Any

VERSIONS = """
select d.account, d.key, d.version, r.version, r.value::text is not distinct from d.value::text
from documents d left join lateral (
    select version, value from revisions
    where account = d.account and key = d.key order by version desc limit 1
) r on true
where d.account = any($1)
  and (r.version is distinct from d.version
       or r.value::text is distinct from d.value::text)
"""
HEADS = """
select h.account, h.seq, coalesce(d.newest, 0), coalesce(d.documents, 0), coalesce(d.apart, 0)
from heads h left join lateral (
    select max(seq) as newest, count(*) as documents, count(distinct seq) as apart
    from documents where account = h.account
) d on true
where h.account = any($1) and (coalesce(d.newest, 0) <> h.seq or d.documents <> d.apart)
"""
NEXT_ACCOUNTS = """
select account from heads where account > $1 order by account limit $2
"""
COUNT_DOCUMENTS = "select count(*) from documents where account = any($1)"


async def next_accounts(connection: Any, after: str, limit: int) -> list[str]:
    rows = await connection.fetch(NEXT_ACCOUNTS, after, limit)
    return [row[0] for row in rows]


async def count_documents(connection: Any, accounts: Sequence[str]) -> int:
    return int(await connection.fetchval(COUNT_DOCUMENTS, accounts))


async def read_wrong_versions(connection: Any, accounts: Sequence[str]) -> list[Any]:
    """Documents that are not their last revision: account, key, version, that of the revision,
    whether the values are equal."""
    rows: list[Any] = await connection.fetch(VERSIONS, accounts)
    return rows


async def read_wrong_heads(connection: Any, accounts: Sequence[str]) -> list[Any]:
    """Heads that are not the last change: account, sequence, that of the last change, documents,
    how many different sequences these have."""
    rows: list[Any] = await connection.fetch(HEADS, accounts)
    return rows
