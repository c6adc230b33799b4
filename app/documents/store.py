"""All SQL of documents. Arrays in, so that a batch of any size costs the same statements.

Every statement names the accounts beside the keys (`account = any($1)`), and every write is an
upsert joined to `heads`: so it stays on one shard where the tables are spread by account.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from app.documents.decide import Own, Snapshot
from merge_rules.state import Stored

DocumentId = tuple[str, str]
"""Account and key."""

LOCK_HEADS = """
select account, seq from heads where account = any($1) order by account for update
"""
CREATE_HEADS = """
insert into heads (account, seq) select account, 0 from unnest($1::text[]) account
order by account on conflict (account) do nothing
"""
READ_DOCUMENTS = """
select d.account, d.key, d.version, d.epoch, d.epoch_version, d.value::text, d.sidecar, d.rule,
       d.device, d.updated_at_ms
from unnest($2::text[], $3::text[]) w (account, key)
join documents d on d.account = w.account and d.key = w.key
where d.account = any($1)
"""
READ_DOCUMENT = """
select account, key, version, epoch, epoch_version, value::text, sidecar, rule,
       device, updated_at_ms
from documents where account = $1 and key = $2
"""
COUNT_DOCUMENTS = """
select account, count(*) as documents from documents where account = any($1) group by account
"""
READ_SEEN = """
select m.account, m.id, m.digest
from unnest($2::text[], $3::uuid[]) w (account, id)
join mutations m on m.account = w.account and m.id = w.id
where m.account = any($1)
"""
READ_DEVICES = """
select d.account, d.device, d.last_mutation
from unnest($2::text[], $3::text[]) w (account, device)
join devices d on d.account = w.account and d.device = w.device
where d.account = any($1)
"""
READ_BASES = """
select r.account, r.key, r.version, r.epoch, r.value::text, r.sidecar, r.rule, r.device,
       r.updated_at_ms
from unnest($2::text[], $3::text[], $4::bigint[]) w (account, key, version)
join revisions r on r.account = w.account and r.key = w.key
                and r.slot = w.version % $5 and r.version = w.version
where r.account = any($1)
"""
READ_OWN_REVISIONS = """
select distinct on (r.account, r.key, r.device)
       r.account, r.key, r.device, r.version, r.base, r.proposed, r.value::text, r.sidecar, r.rule
from unnest($2::text[], $3::text[], $4::text[]) w (account, key, device)
join revisions r on r.account = w.account and r.key = w.key and r.device = w.device
where r.account = any($1)
order by r.account, r.key, r.device, r.version desc
"""
READ_PROPOSALS = """
select p.account, p.key, p.device, p.version, p.base, p.proposed
from unnest($2::text[], $3::text[], $4::text[]) w (account, key, device)
join proposals p on p.account = w.account and p.key = w.key and p.device = w.device
where p.account = any($1)
"""
WRITE_HEADS = """
update heads h set seq = w.seq
from unnest($2::text[], $3::bigint[]) w (account, seq)
where h.account = w.account and h.account = any($1)
"""
WRITE_DOCUMENTS = """
insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, rule,
                       device, updated_at_ms)
select h.account, w.key, w.version, w.seq, w.epoch, w.epoch_version, w.value::json, w.sidecar,
       w.rule, w.device, w.updated_at_ms
from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[],
            $8::text[], $9::bytea[], $10::text[], $11::text[], $12::bigint[])
     w (account, key, version, seq, epoch, epoch_version, value, sidecar, rule, device,
        updated_at_ms)
join heads h on h.account = w.account
where h.account = any($1)
on conflict (account, key) do update set
    version = excluded.version, seq = excluded.seq, epoch = excluded.epoch,
    epoch_version = excluded.epoch_version, value = excluded.value, sidecar = excluded.sidecar,
    rule = excluded.rule, device = excluded.device, updated_at_ms = excluded.updated_at_ms
"""
WRITE_REVISIONS = """
insert into revisions (account, key, slot, version, epoch, value, sidecar, rule, proposed, base,
                       outcome, device, mutation, updated_at_ms)
select h.account, w.key, w.version % $15, w.version, w.epoch, w.value::json, w.sidecar, w.rule,
       w.proposed, w.base, w.outcome, w.device, w.mutation, w.updated_at_ms
from unnest($2::text[], $3::text[], $4::bigint[], $5::int[], $6::text[], $7::bytea[], $8::text[],
            $9::bytea[], $10::bigint[], $11::text[], $12::text[], $13::uuid[], $14::bigint[])
     w (account, key, version, epoch, value, sidecar, rule, proposed, base, outcome, device,
        mutation, updated_at_ms)
join heads h on h.account = w.account
where h.account = any($1)
on conflict (account, key, slot) do update set
    version = excluded.version, epoch = excluded.epoch, value = excluded.value,
    sidecar = excluded.sidecar, rule = excluded.rule, proposed = excluded.proposed,
    base = excluded.base, outcome = excluded.outcome, device = excluded.device,
    mutation = excluded.mutation, updated_at_ms = excluded.updated_at_ms
"""
TOUCH_DOCUMENTS = """
update documents d set sidecar = w.sidecar, rule = w.rule
from unnest($2::text[], $3::text[], $4::bytea[], $5::text[]) w (account, key, sidecar, rule)
where d.account = w.account and d.key = w.key and d.account = any($1)
"""
TOUCH_REVISIONS = """
update revisions r
set sidecar = w.sidecar, rule = w.rule, proposed = coalesce(r.proposed, w.before)
from unnest($2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], $7::bytea[])
     w (account, key, sidecar, rule, version, before)
where r.account = w.account and r.key = w.key and r.slot = w.version % $8
  and r.version = w.version and r.account = any($1)
"""
WRITE_PROPOSALS = """
insert into proposals (account, key, device, version, base, proposed, updated_at_ms)
select h.account, w.key, w.device, w.version, w.base, w.proposed, w.updated_at_ms
from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bytea[],
            $8::bigint[]) w (account, key, device, version, base, proposed, updated_at_ms)
join heads h on h.account = w.account
where h.account = any($1)
on conflict (account, key, device) do update set
    version = excluded.version, base = excluded.base, proposed = excluded.proposed,
    updated_at_ms = excluded.updated_at_ms
"""
WRITE_SEEN = """
insert into mutations (account, id, key, digest, created_at_ms)
select h.account, w.id, w.key, w.digest, w.created_at_ms
from unnest($2::text[], $3::uuid[], $4::text[], $5::bytea[], $6::bigint[])
     w (account, id, key, digest, created_at_ms)
join heads h on h.account = w.account
where h.account = any($1)
"""
WRITE_DEVICES = """
insert into devices (account, device, last_mutation, first_seen_ms, last_seen_ms)
select h.account, w.device, w.last_mutation, w.seen_ms, w.seen_ms
from unnest($2::text[], $3::text[], $4::uuid[], $5::bigint[])
     w (account, device, last_mutation, seen_ms)
join heads h on h.account = w.account
where h.account = any($1)
on conflict (account, device) do update set
    last_mutation = coalesce(excluded.last_mutation, devices.last_mutation),
    last_seen_ms = excluded.last_seen_ms
"""
LIST_DOCUMENTS = """
select key, version, octet_length(value::text) as bytes, updated_at_ms
from documents where account = $1 and value is not null order by key collate "C"
"""
LIST_REVISIONS = """
select version, value is null as deleted, coalesce(octet_length(value::text), 0) as bytes,
       outcome, base, device, mutation, updated_at_ms
from revisions where account = $1 and key = $2 and version > $3 order by version desc
"""
READ_REVISION = """
select version, epoch, value::text, sidecar, rule, proposed, base, outcome, device, mutation,
       updated_at_ms
from revisions where account = $1 and key = $2 and version = any($3)
"""
PRUNE_MUTATIONS = """
delete from mutations where (account, id) in
    (select account, id from mutations where created_at_ms < $1 limit $2)
"""
PRUNE_PROPOSALS = """
delete from proposals where (account, key, device) in
    (select account, key, device from proposals where updated_at_ms < $1 limit $2)
"""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, bytes | None, bytes]).decode


@dataclass(slots=True)
class Version:
    """A new version of a document, as it goes to `documents` and `revisions`."""

    account: str
    document: Snapshot
    seq: int
    proposed: Stored | None
    base: int | None
    outcome: str
    mutation: UUID | None


@dataclass(slots=True)
class Touch:
    """A version whose value stays while more is known about it."""

    account: str
    document: Snapshot
    before: Stored
    before_rule: str


@dataclass(slots=True)
class Proposal:
    """What a device proposed where that made no version."""

    account: str
    device: str
    key: str
    own: Own
    at_ms: int


async def lock_heads(connection: Any, accounts: Sequence[str]) -> dict[str, int]:
    """Locks the heads of the accounts, which must be sorted; makes those that are new."""
    rows = await connection.fetch(LOCK_HEADS, accounts)
    if len(rows) < len(accounts):
        await connection.execute(CREATE_HEADS, accounts)
        rows = await connection.fetch(LOCK_HEADS, accounts)
    return {row["account"]: row["seq"] for row in rows}


async def read_documents(
    connection: Any, accounts: Sequence[str], ids: Iterable[DocumentId]
) -> dict[DocumentId, Snapshot]:
    rows = await connection.fetch(READ_DOCUMENTS, accounts, *_columns(ids, 2))
    return {(row[0], row[1]): _snapshot(row) for row in rows}


async def read_document(connection: Any, account: str, key: str) -> Snapshot | None:
    row = await connection.fetchrow(READ_DOCUMENT, account, key)
    return None if row is None else _snapshot(row)


async def count_documents(connection: Any, accounts: Sequence[str]) -> dict[str, int]:
    rows = await connection.fetch(COUNT_DOCUMENTS, accounts)
    return {row["account"]: row["documents"] for row in rows}


async def read_seen(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, UUID]]
) -> dict[tuple[str, UUID], bytes]:
    """The digests of the mutations that were accepted before."""
    rows = await connection.fetch(READ_SEEN, accounts, *_columns(ids, 2))
    return {(row["account"], row["id"]): row["digest"] for row in rows}


async def read_devices(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], UUID | None]:
    """The last mutation accepted from each device."""
    rows = await connection.fetch(READ_DEVICES, accounts, *_columns(ids, 2))
    return {(row["account"], row["device"]): row["last_mutation"] for row in rows}


async def read_bases(
    connection: Any,
    accounts: Sequence[str],
    ids: Iterable[tuple[str, str, int]],
    history: int,
) -> dict[tuple[str, str, int], Snapshot]:
    """Earlier versions, by account, key and version, as far as they are kept."""
    rows = await connection.fetch(READ_BASES, accounts, *_columns(ids, 3), history)
    return {
        (row["account"], row["key"], row["version"]): Snapshot(
            key=row["key"],
            version=row["version"],
            epoch=row["epoch"],
            epoch_version=0,
            stored=_stored(row),
            rule=row["rule"],
            device=row["device"],
            updated_at_ms=row["updated_at_ms"],
        )
        for row in rows
    }


async def read_owns(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], list[Own]]:
    """What each device last proposed for a document, by account, key and device; newest last."""
    columns = _columns(ids, 3)
    owns: dict[tuple[str, str, str], list[Own]] = {}
    for row in await connection.fetch(READ_OWN_REVISIONS, accounts, *columns):
        rule, proposed = row["rule"], _stored(row)
        if row["proposed"] is not None:
            rule, proposed = _load(row["proposed"])
        own = Own(row["version"], row["base"], proposed, rule)
        owns[row["account"], row["key"], row["device"]] = [own]
    for row in await connection.fetch(READ_PROPOSALS, accounts, *columns):
        rule, proposed = _load(row["proposed"])
        own = Own(row["version"], row["base"], proposed, rule)
        owns.setdefault((row["account"], row["key"], row["device"]), []).append(own)
    for own_list in owns.values():
        own_list.sort(key=lambda own: own.version)
    return owns


async def write_heads(connection: Any, seqs: dict[str, int]) -> None:
    await connection.execute(WRITE_HEADS, list(seqs), *_columns(seqs.items(), 2))


async def write_versions(connection: Any, versions: Sequence[Version], history: int) -> None:
    """New versions: the last of each document, and into its ring all that fit."""
    last = {(version.account, version.document.key): version for version in versions}
    accounts = sorted({version.account for version in versions})
    await connection.execute(
        WRITE_DOCUMENTS,
        accounts,
        *_columns(
            (
                (
                    version.account,
                    document.key,
                    document.version,
                    version.seq,
                    document.epoch,
                    document.epoch_version,
                    _text(document.stored),
                    document.stored.sidecar,
                    document.rule,
                    document.device,
                    document.updated_at_ms,
                )
                for version in last.values()
                for document in (version.document,)
            ),
            11,
        ),
    )
    kept = {
        (version.account, version.document.key, version.document.version % history): version
        for version in versions
    }
    await connection.execute(
        WRITE_REVISIONS,
        accounts,
        *_columns(
            (
                (
                    version.account,
                    document.key,
                    document.version,
                    document.epoch,
                    _text(document.stored),
                    document.stored.sidecar,
                    document.rule,
                    None if version.proposed is None else _dump(document.rule, version.proposed),
                    version.base,
                    version.outcome,
                    document.device,
                    version.mutation,
                    document.updated_at_ms,
                )
                for version in kept.values()
                for document in (version.document,)
            ),
            13,
        ),
        history,
    )


async def write_touches(connection: Any, touches: Sequence[Touch], history: int) -> None:
    accounts = sorted({touch.account for touch in touches})
    rows = [
        (
            touch.account,
            touch.document.key,
            touch.document.stored.sidecar,
            touch.document.rule,
            touch.document.version,
            _dump(touch.before_rule, touch.before),
        )
        for touch in touches
    ]
    await connection.execute(TOUCH_DOCUMENTS, accounts, *_columns((row[:4] for row in rows), 4))
    await connection.execute(TOUCH_REVISIONS, accounts, *_columns(rows, 6), history)


async def write_proposals(connection: Any, proposals: Sequence[Proposal]) -> None:
    await connection.execute(
        WRITE_PROPOSALS,
        sorted({proposal.account for proposal in proposals}),
        *_columns(
            (
                (
                    proposal.account,
                    proposal.key,
                    proposal.device,
                    proposal.own.version,
                    proposal.own.base,
                    _dump(proposal.own.rule, proposal.own.proposed),
                    proposal.at_ms,
                )
                for proposal in proposals
            ),
            7,
        ),
    )


async def write_seen(connection: Any, rows: Sequence[tuple[str, UUID, str, bytes, int]]) -> None:
    """Accepted mutations: account, id, key, digest, time in ms."""
    await connection.execute(WRITE_SEEN, sorted({row[0] for row in rows}), *_columns(rows, 5))


async def write_devices(connection: Any, rows: Sequence[tuple[str, str, UUID | None, int]]) -> None:
    """Devices that wrote: account, device, last accepted mutation, time in ms."""
    await connection.execute(WRITE_DEVICES, sorted({row[0] for row in rows}), *_columns(rows, 4))


async def list_documents(connection: Any, account: str) -> list[Any]:
    rows: list[Any] = await connection.fetch(LIST_DOCUMENTS, account)
    return rows


async def list_revisions(connection: Any, account: str, key: str, newer_than: int) -> list[Any]:
    rows: list[Any] = await connection.fetch(LIST_REVISIONS, account, key, newer_than)
    return rows


async def read_revisions(
    connection: Any, account: str, key: str, versions: Sequence[int]
) -> dict[int, Any]:
    """The rows of kept versions, by version; `proposed` as `load_proposed` reads it."""
    rows = await connection.fetch(READ_REVISION, account, key, versions)
    return {row["version"]: row for row in rows}


async def prune(connection: Any, before_ms: int, limit: int) -> int:
    """Forgets ids and proposals from before a time, at most `limit` of each; how many went."""
    gone = 0
    for statement in (PRUNE_MUTATIONS, PRUNE_PROPOSALS):
        status: str = await connection.execute(statement, before_ms, limit)
        gone += int(status.rpartition(" ")[2])
    return gone


def load_proposed(data: bytes) -> tuple[str, Stored]:
    """The rule and the state of a `proposed` column."""
    return _load(data)


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as the arrays that `unnest` takes."""
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def _snapshot(row: Any) -> Snapshot:
    value = row[5]
    return Snapshot(
        key=row[1],
        version=row[2],
        epoch=row[3],
        epoch_version=row[4],
        stored=Stored(None if value is None else value.encode(), row[6]),
        rule=row[7],
        device=row[8],
        updated_at_ms=row[9],
    )


def _stored(row: Any) -> Stored:
    value = row["value"]
    return Stored(None if value is None else value.encode(), row["sidecar"])


def _text(stored: Stored) -> str | None:
    return None if stored.value is None else stored.value.decode()


def _dump(rule: str, stored: Stored) -> bytes:
    return _pack((rule, stored.value, stored.sidecar))


def _load(data: bytes) -> tuple[str, Stored]:
    rule, value, sidecar = _unpack(data)
    return rule, Stored(value, sidecar)
