"""Whether the documents add up: versions are revisions, heads are changes."""

from collections.abc import Sequence
from typing import Any

from app.documents import audit_store as store


async def next_accounts(connection: Any, after: str, limit: int) -> list[str]:
    """The next accounts that ever wrote, in order."""
    return await store.next_accounts(connection, after, limit)


async def find_differences(
    connection: Any, accounts: Sequence[str]
) -> tuple[int, list[tuple[str, str]]]:
    """How many documents there are, and an account and a sentence for each thing that is wrong."""
    found = []
    for account, key, version, kept, equal in await store.read_wrong_versions(connection, accounts):
        why = f"the last revision is {kept}" if kept != version else "its revision differs"
        assert kept != version or not equal
        found.append((account, f"{key!r} is at version {version}, and {why}"))
    for account, seq, newest, documents, apart in await store.read_wrong_heads(
        connection, accounts
    ):
        why = f"the last change is {newest}"
        if documents != apart:
            why = f"{documents} documents share {apart} sequences"
        found.append((account, f"the head is at {seq}, and {why}"))
    return await store.count_documents(connection, accounts), found
