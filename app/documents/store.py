"""Documents, their versions and what was seen: from and to the database, a batch at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from app.documents import statements as sql
from app.documents.model import Accepted, DeviceRecord, Own, Proposed, Snapshot
from merge_rules.canonical import encode as encode_json
from merge_rules.receipt import Receipt
from merge_rules.state import Stored

DocumentId = tuple[str, str]
"""Account and key."""


class _Packed(msgspec.Struct, array_like=True, omit_defaults=True):
    """A proposal as a column holds it: the rule that made it, what is joined, the copy."""

    rule: str
    value: bytes | None
    sidecar: bytes
    copy: tuple[bytes | None, bytes] | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode


@dataclass(slots=True)
class Version:
    """A new version of a document, as it goes to `documents` and `revisions`."""

    account: str
    document: Snapshot
    seq: int
    proposed: Proposed | None
    receipt: Receipt | None
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
    mutation: UUID | None
    at_ms: int


async def lock_heads(connection: Any, accounts: Sequence[str]) -> dict[str, int]:
    """Locks the heads of the accounts, which must be sorted; makes those that are new."""
    rows = await connection.fetch(sql.LOCK_HEADS, accounts)
    if len(rows) < len(accounts):
        await connection.execute(sql.CREATE_HEADS, accounts)
        rows = await connection.fetch(sql.LOCK_HEADS, accounts)
    return {row["account"]: row["seq"] for row in rows}


async def read_documents(
    connection: Any, accounts: Sequence[str], ids: Iterable[DocumentId]
) -> dict[DocumentId, Snapshot]:
    rows = await connection.fetch(sql.READ_DOCUMENTS, accounts, *_columns(ids, 2))
    return {(row[0], row[1]): _snapshot(row) for row in rows}


async def read_document(connection: Any, account: str, key: str) -> Snapshot | None:
    row = await connection.fetchrow(sql.READ_DOCUMENT, account, key)
    return None if row is None else _snapshot(row)


async def count_documents(connection: Any, accounts: Sequence[str]) -> dict[str, int]:
    rows = await connection.fetch(sql.COUNT_DOCUMENTS, accounts)
    return {row["account"]: row["documents"] for row in rows}


async def read_seen(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, UUID]]
) -> dict[tuple[str, UUID], Accepted]:
    """The mutations that were accepted before."""
    rows = await connection.fetch(sql.READ_SEEN, accounts, *_columns(ids, 2))
    return {(row["account"], row["id"]): Accepted(row["digest"], row["number"]) for row in rows}


async def read_devices(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], DeviceRecord]:
    """What was accepted from each device."""
    rows = await connection.fetch(sql.READ_DEVICES, accounts, *_columns(ids, 2))
    return {
        (row["account"], row["device"]): DeviceRecord(row["last_mutation"], row["accepted"])
        for row in rows
    }


async def read_bases(
    connection: Any,
    accounts: Sequence[str],
    ids: Iterable[tuple[str, str, int]],
    history: int,
) -> dict[tuple[str, str, int], Snapshot]:
    """Earlier versions, by account, key and version, as far as they are kept."""
    rows = await connection.fetch(sql.READ_BASES, accounts, *_columns(ids, 3), history)
    return {
        (row["account"], row["key"], row["version"]): snapshot_of_revision(row["key"], row)
        for row in rows
    }


def snapshot_of_revision(key: str, row: Any) -> Snapshot:
    """A kept version; when its epoch began and where it was folded only the document knows."""
    return Snapshot(
        key=key,
        version=row["version"],
        epoch=row["epoch"],
        epoch_version=0,
        folded_version=0,
        stored=stored_of(row),
        rule=row["rule"],
        device=row["device"],
        updated_at_ms=row["updated_at_ms"],
        base=row["base"],
    )


async def read_owns(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], list[Own]]:
    """What each device last proposed for a document, by account, key and device; newest last."""
    columns = _columns(ids, 3)
    owns: dict[tuple[str, str, str], list[Own]] = {}
    for row in await connection.fetch(sql.READ_OWN_REVISIONS, accounts, *columns):
        owns[row["account"], row["key"], row["device"]] = [own_of_revision(row)]
    for row in await connection.fetch(sql.READ_PROPOSALS, accounts, *columns):
        id = (row["account"], row["key"], row["device"])
        owns.setdefault(id, []).append(_own_of_proposal(row))
    for own_list in owns.values():
        own_list.sort(key=lambda own: own.version)
    return owns


async def read_made(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, str, UUID]]
) -> dict[tuple[str, UUID], tuple[str | None, Own]]:
    """What mutations, by account, key and id, proposed and on which device, if it is kept."""
    columns = _columns(ids, 3)
    made: dict[tuple[str, UUID], tuple[str | None, Own]] = {}
    for row in await connection.fetch(sql.READ_MADE_REVISIONS, accounts, *columns):
        made[row["account"], row["mutation"]] = (row["device"], own_of_revision(row))
    for row in await connection.fetch(sql.READ_MADE_PROPOSALS, accounts, *columns):
        made[row["account"], row["mutation"]] = (row["device"], _own_of_proposal(row))
    return made


def own_of_revision(row: Any) -> Own:
    if row["proposed"] is None:
        return Own(row["version"], row["base"], Proposed(stored_of(row)), row["rule"])
    return _own_of_proposal(row)


def _own_of_proposal(row: Any) -> Own:
    rule, proposed = _load(row["proposed"])
    return Own(row["version"], row["base"], proposed, rule)


async def read_evicted(
    connection: Any, versions: Sequence[Version], history: int, now_ms: int
) -> list[Proposal]:
    """What devices last proposed in revisions whose place new versions will take."""
    full = [one for one in versions if one.document.version > history]
    if not full:
        return []
    rows = await connection.fetch(
        sql.READ_EVICTED,
        sorted({one.account for one in full}),
        *_columns(
            (
                (one.account, one.document.key, one.document.version, one.document.device or "")
                for one in full
            ),
            4,
        ),
        history,
    )
    return [
        Proposal(
            row["account"],
            row["device"],
            row["key"],
            own_of_revision(row),
            row["mutation"],
            now_ms,
        )
        for row in rows
    ]


async def write_heads(connection: Any, seqs: dict[str, int]) -> None:
    await connection.execute(sql.WRITE_HEADS, list(seqs), *_columns(seqs.items(), 2))


async def write_versions(connection: Any, versions: Sequence[Version], history: int) -> None:
    """New versions: the last of each document, and into its ring all that fit."""
    last = {(version.account, version.document.key): version for version in versions}
    accounts = sorted({version.account for version in versions})
    await connection.execute(
        sql.WRITE_DOCUMENTS,
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
                    document.folded_version,
                    _text(document.stored),
                    document.stored.sidecar,
                    document.rule,
                    document.device,
                    document.updated_at_ms,
                )
                for version in last.values()
                for document in (version.document,)
            ),
            12,
        ),
    )
    kept = {
        (version.account, version.document.key, version.document.version % history): version
        for version in versions
    }
    await connection.execute(
        sql.WRITE_REVISIONS,
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
                    None if version.receipt is None else encode_json(version.receipt),
                    version.base,
                    version.outcome,
                    document.device,
                    version.mutation,
                    document.updated_at_ms,
                )
                for version in kept.values()
                for document in (version.document,)
            ),
            14,
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
            touch.document.folded_version,
            touch.document.version,
            _dump(touch.before_rule, Proposed(touch.before)),
        )
        for touch in touches
    ]
    documents = (row[:5] for row in rows)
    revisions = ((*row[:4], *row[5:]) for row in rows)
    await connection.execute(sql.TOUCH_DOCUMENTS, accounts, *_columns(documents, 5))
    await connection.execute(sql.TOUCH_REVISIONS, accounts, *_columns(revisions, 6), history)


async def write_proposals(connection: Any, proposals: Sequence[Proposal]) -> None:
    await connection.execute(
        sql.WRITE_PROPOSALS,
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
                    proposal.mutation,
                    proposal.at_ms,
                )
                for proposal in proposals
            ),
            8,
        ),
    )


async def write_seen(
    connection: Any, rows: Sequence[tuple[str, UUID, str, bytes, int | None, int]]
) -> None:
    """Accepted mutations: account, id, key, digest, number, time in ms."""
    accounts = sorted({row[0] for row in rows})
    await connection.execute(sql.WRITE_SEEN, accounts, *_columns(rows, 6))


async def write_devices(
    connection: Any, rows: Sequence[tuple[str, str, UUID | None, int, int]]
) -> None:
    """Devices that wrote: account, device, last accepted mutation, accepted, time in ms."""
    accounts = sorted({row[0] for row in rows})
    await connection.execute(sql.WRITE_DEVICES, accounts, *_columns(rows, 5))


async def prune(connection: Any, before_ms: int, limit: int) -> int:
    """Forgets ids and proposals from before a time, at most `limit` of each; how many went."""
    gone = 0
    for statement in (sql.PRUNE_MUTATIONS, sql.PRUNE_PROPOSALS):
        status: str = await connection.execute(statement, before_ms, limit)
        gone += int(status.rpartition(" ")[2])
    return gone


async def read_large_sidecars(
    connection: Any, after: DocumentId, least_bytes: int, limit: int
) -> list[DocumentId]:
    """The next documents, by account and key, whose sidecar has so many bytes or more."""
    rows = await connection.fetch(sql.READ_LARGE_SIDECARS, *after, least_bytes, limit)
    return [(row["account"], row["key"]) for row in rows]


async def read_alive(connection: Any, account: str, since_ms: int) -> frozenset[str]:
    """The devices of an account that wrote since a time."""
    rows = await connection.fetch(sql.READ_ALIVE, account, since_ms)
    return frozenset(row["device"] for row in rows)


async def read_rules(connection: Any) -> list[tuple[str, str, str]]:
    """Every rule ever used: pattern, fingerprint, definition."""
    return [tuple(row) for row in await connection.fetch(sql.READ_RULES)]


async def write_rules(connection: Any, rows: Sequence[tuple[str, str, str]], now_ms: int) -> None:
    await connection.execute(sql.WRITE_RULES, *_columns(rows, 3), now_ms)


async def has_documents_of(connection: Any, fingerprint: str) -> bool:
    """Whether any document was last written by this rule; a scan."""
    return bool(await connection.fetchval(sql.HAS_DOCUMENTS_OF, fingerprint))


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as the arrays that `unnest` takes."""
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def _snapshot(row: Any) -> Snapshot:
    value = row[6]
    return Snapshot(
        key=row[1],
        version=row[2],
        epoch=row[3],
        epoch_version=row[4],
        folded_version=row[5],
        stored=Stored(None if value is None else value.encode(), row[7]),
        rule=row[8],
        device=row[9],
        updated_at_ms=row[10],
    )


def stored_of(row: Any) -> Stored:
    value = row["value"]
    return Stored(None if value is None else value.encode(), row["sidecar"])


def _text(stored: Stored) -> str | None:
    return None if stored.value is None else stored.value.decode()


def _dump(rule: str, proposed: Proposed) -> bytes:
    stored, copy = proposed.stored, proposed.copy
    return _pack(_Packed(rule, stored.value, stored.sidecar, copy and (copy.value, copy.sidecar)))


def _load(data: bytes) -> tuple[str, Proposed]:
    packed = _unpack(data)
    copy = None if packed.copy is None else Stored(*packed.copy)
    return packed.rule, Proposed(Stored(packed.value, packed.sidecar), copy)
