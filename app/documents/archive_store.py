"""Lists of documents and their kept versions, for whoever looks and does not write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.documents import statements as sql
from app.documents.model import Proposed, Snapshot
from app.documents.store import DocumentId, own_of_revision, snapshot_of_revision
from merge_rules.canonical import decode as decode_json
from merge_rules.receipt import Receipt


@dataclass(slots=True)
class Revision:
    """A kept version, how it came about, and what the device proposed."""

    document: Snapshot
    outcome: str
    proposed: Proposed


async def list_documents(connection: Any, account: str) -> list[Any]:
    rows: list[Any] = await connection.fetch(sql.LIST_DOCUMENTS, account)
    return rows


async def list_revisions(connection: Any, account: str, key: str, newer_than: int) -> list[Any]:
    rows: list[Any] = await connection.fetch(sql.LIST_REVISIONS, account, key, newer_than)
    return rows


async def read_revisions(
    connection: Any, account: str, key: str, versions: Sequence[int]
) -> dict[int, Any]:
    """The rows of kept versions, by version; `receipt` as `load_receipt` reads it."""
    rows = await connection.fetch(sql.READ_REVISION, account, key, versions)
    return {row["version"]: row for row in rows}


def load_receipt(data: bytes) -> Receipt:
    receipt: Receipt = decode_json(data)
    return receipt


async def list_keys(connection: Any, after: DocumentId, limit: int) -> list[DocumentId]:
    """The next documents of all accounts, by account and key."""
    rows = await connection.fetch(sql.LIST_KEYS, *after, limit)
    return [(row["account"], row["key"]) for row in rows]


async def count_all(connection: Any) -> int:
    """How many documents there are, tombstones included; a scan."""
    return int(await connection.fetchval(sql.COUNT_ALL))


async def read_history(connection: Any, account: str, key: str) -> list[Revision]:
    """The kept versions of a document, oldest first."""
    return [
        Revision(snapshot_of_revision(key, row), row["outcome"], own_of_revision(row).proposed)
        for row in await connection.fetch(sql.READ_HISTORY, account, key)
    ]
