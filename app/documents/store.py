"""Documents, their versions and what was seen: from and to the database, a batch at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.documents import statements as sql
from app.documents.cache import Head
from app.documents.model import Accepted, DeviceRecord, Own, Proposed, Snapshot
from app.documents.packing import pack, unpack
from app.ledger import store as ledger_store
from app.ledger.work import LedgerWork
from merge_rules.canonical import encode as encode_json
from merge_rules.receipt import Receipt
from merge_rules.state import Stored

DocumentId = tuple[str, str]
"""Account and key."""


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


async def read_heads(
    connection: Any, accounts: Sequence[str], *, lock: bool = False
) -> dict[str, Head]:
    """The heads of the accounts, in order; makes those that are new."""
    statement = sql.LOCK_HEADS if lock else sql.READ_HEADS
    rows = await connection.fetch(statement, accounts)
    if len(rows) < len(accounts):
        await connection.execute(sql.CREATE_HEADS, accounts)
        rows = await connection.fetch(statement, accounts)
    return {row[0]: Head(row[1], row[2]) for row in rows}


async def find_held(connection: Any, accounts: Sequence[str]) -> dict[str, bool]:
    """Whether anybody holds a head just now, of those accounts that have one; it never waits."""
    return {row[0]: row[1] for row in await connection.fetch(sql.FIND_HELD, accounts)}


async def read_documents(
    connection: Any, accounts: Sequence[str], ids: Iterable[DocumentId]
) -> dict[DocumentId, Snapshot]:
    rows = await connection.fetch(sql.READ_DOCUMENTS, accounts, *_columns(ids))
    return {(row[0], row[1]): _snapshot(row) for row in rows}


async def read_each(connection: Any, ids: Sequence[DocumentId]) -> Sequence[Snapshot | None]:
    """The document of each id; None where there never was one."""
    accounts = sorted({account for account, _ in ids})
    found = await read_documents(connection, accounts, set(ids))
    return [found.get(id) for id in ids]


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
    rows = await connection.fetch(sql.READ_SEEN, accounts, *_columns(ids))
    return {(row["account"], row["id"]): Accepted(row["digest"], row["number"]) for row in rows}


async def read_devices(
    connection: Any, accounts: Sequence[str], ids: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], DeviceRecord]:
    """What was accepted from each device."""
    rows = await connection.fetch(sql.READ_DEVICES, accounts, *_columns(ids))
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
    rows = await connection.fetch(sql.READ_BASES, accounts, *_columns(ids), history)
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
    columns = _columns(ids)
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
    columns = _columns(ids)
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
    rule, proposed = unpack(row["proposed"])
    return Own(row["version"], row["base"], proposed, rule)


async def read_evicted(
    connection: Any, versions: Sequence[Version], history: int, now_ms: int
) -> list[Proposal]:
    """What devices last proposed in revisions whose place these new versions will take."""
    rows = await connection.fetch(
        sql.READ_EVICTED,
        sorted({one.account for one in versions}),
        *_columns(
            (one.account, one.document.key, one.document.version, one.document.device or "")
            for one in versions
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


@dataclass(slots=True)
class Changes:
    """All that a batch writes. Of an account whose head is not `before` nothing is written."""

    before: Mapping[str, Head]
    """Of every account that the batch concerns."""
    after: Mapping[str, Head]
    """Of the accounts that it changes."""
    versions: Sequence[Version] = ()
    touches: Sequence[Touch] = ()
    proposals: Sequence[Proposal] = ()
    seen: Sequence[tuple[str, UUID, str, bytes, int | None, int]] = ()
    """Accepted mutations: account, id, key, digest, number, time in ms."""
    devices: Sequence[tuple[str, str, UUID | None, int, int]] = ()
    """Devices that wrote: account, device, last accepted mutation, accepted, time in ms."""
    ledger: LedgerWork | None = None
    """What events changed."""


async def write(
    connection: Any, changes: Changes, history: int
) -> tuple[Sequence[str], str | None]:
    """Writes a batch in one statement; the accounts whose head was still as it says, and the era
    of the database."""
    parts = {name: columns for name, columns in _parts(changes, history) if columns}
    arguments = [column for columns in parts.values() for column in columns]
    rows = await connection.fetch(sql.write(tuple(parts)), *arguments)
    return [row[0] for row in rows], rows[0][1] if rows else None


def _parts(changes: Changes, history: int) -> Iterator[tuple[str, list[Sequence[Any]]]]:
    """The parts of the statement and their columns, none where there is nothing to write."""
    before, after = changes.before, changes.after
    yield "written", _columns((name, *before[name], *head) for name, head in after.items())
    yield "unwritten", _columns((name, *before[name]) for name in before if name not in after)
    last = {(version.account, version.document.key): version for version in changes.versions}
    kept = {_place(one.account, one.document, history): one for one in changes.versions}
    yield (
        "versions",
        _columns(
            _version_row(one, history, last[one.account, one.document.key] is one)
            for one in kept.values()
        ),
    )
    # What a version of this very batch replaces is not written twice.
    touched = [one for one in changes.touches if (one.account, one.document.key) not in last]
    yield (
        "documents_touched",
        _columns(
            (
                one.account,
                document.key,
                document.stored.sidecar,
                document.rule,
                document.folded_version,
            )
            for one in touched
            for document in (one.document,)
        ),
    )
    touched = [
        one for one in changes.touches if _place(one.account, one.document, history) not in kept
    ]
    yield "revisions_touched", _columns(_touch_row(one, history) for one in touched)
    yield "proposals_written", _columns(_proposal_row(one) for one in changes.proposals)
    yield "mutations_seen", _columns(changes.seen)
    yield "devices_seen", _columns(changes.devices)
    if changes.ledger is not None:
        yield from ledger_store.parts(changes.ledger)


def _place(account: str, document: Snapshot, history: int) -> tuple[str, str, int]:
    """Where a version stands in the ring."""
    return account, document.key, document.version % history


def _version_row(version: Version, history: int, last: bool) -> tuple[Any, ...]:
    document = version.document
    value, sidecar = document.stored
    return (
        version.account,
        document.key,
        document.version % history,
        document.version,
        last,
        version.seq,
        document.epoch,
        document.epoch_version,
        document.folded_version,
        None if value is None else value.decode(),
        sidecar,
        document.rule,
        None if version.proposed is None else pack(document.rule, version.proposed),
        None if version.receipt is None else encode_json(version.receipt),
        version.base,
        version.outcome,
        document.device,
        version.mutation,
        document.updated_at_ms,
    )


def _touch_row(touch: Touch, history: int) -> tuple[Any, ...]:
    document = touch.document
    return (
        touch.account,
        document.key,
        document.version % history,
        document.version,
        document.stored.sidecar,
        document.rule,
        pack(touch.before_rule, Proposed(touch.before)),
    )


def _proposal_row(proposal: Proposal) -> tuple[Any, ...]:
    return (
        proposal.account,
        proposal.key,
        proposal.device,
        proposal.own.version,
        proposal.own.base,
        pack(proposal.own.rule, proposal.own.proposed),
        proposal.mutation,
        proposal.at_ms,
    )


async def prune(connection: Any, before_ms: int, limit: int) -> int:
    """Forgets ids and proposals from before a time, at most `limit` of each; how many went."""
    gone = 0
    for statement in (sql.PRUNE_MUTATIONS, sql.PRUNE_PROPOSALS):
        status: str = await connection.execute(statement, before_ms, limit)
        gone += int(status.rpartition(" ")[2])
    return gone


async def read_sidecar_sizes(
    connection: Any, after: DocumentId, limit: int
) -> list[tuple[DocumentId, int]]:
    """The bytes of the sidecars of the next documents, by account and key."""
    rows = await connection.fetch(sql.READ_SIDECAR_SIZES, *after, limit)
    return [((row[0], row[1]), row[2]) for row in rows]


async def read_alive(connection: Any, account: str, since_ms: int) -> frozenset[str]:
    """The devices of an account that wrote since a time."""
    rows = await connection.fetch(sql.READ_ALIVE, account, since_ms)
    return frozenset(row["device"] for row in rows)


async def read_rules(connection: Any) -> list[tuple[str, str, str]]:
    """Every rule ever used: pattern, fingerprint, definition."""
    return [tuple(row) for row in await connection.fetch(sql.READ_RULES)]


async def write_rules(connection: Any, rows: Sequence[tuple[str, str, str]], now_ms: int) -> None:
    await connection.execute(sql.WRITE_RULES, *_columns(rows), now_ms)


async def has_documents_of(connection: Any, fingerprint: str) -> bool:
    """Whether any document was last written by this rule; a scan."""
    return bool(await connection.fetchval(sql.HAS_DOCUMENTS_OF, fingerprint))


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[Sequence[Any]]:
    """Rows as the arrays that `unnest` takes; nothing where there are none."""
    return list(zip(*rows, strict=True))


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
