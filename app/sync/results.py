"""What a sync says of each mutation, within the size of an answer."""

from collections.abc import Sequence

from msgspec import UNSET, Raw, UnsetType

from app import problems
from app.documents.model import Decision, Mutation
from app.documents.types import DocumentView
from app.errors import SynclineError
from app.sync.mutations import Unread
from app.sync.types import MutationResult


def result_of(mutation: Mutation, decision: Decision) -> MutationResult:
    assert mutation.id is not None
    document = decision.document
    if decision.problem is not None:
        version = None if document is None else document.version
        return _rejected(mutation, decision.problem, version)
    assert document is not None
    assert decision.outcome is not None
    held = document.stored.value
    as_sent = held is not None and held == mutation.sent
    return MutationResult(
        id=mutation.id,
        outcome=decision.outcome,
        key=document.key,
        version=document.version,
        deleted=document.deleted,
        value=UNSET if as_sent else Raw(held or b"null"),
        updated_at=document.updated_at_ms,
    )


def _rejected(mutation: Mutation, error: SynclineError, version: int | None) -> MutationResult:
    assert mutation.id is not None
    return MutationResult(
        id=mutation.id,
        outcome="rejected",
        key=mutation.key,
        version=UNSET if version is None else version,
        problem=problems.problem(error),
    )


def result_of_unread(unread: Unread) -> MutationResult:
    return MutationResult(
        id=unread.id,
        outcome="rejected",
        key=unread.key,
        problem=problems.problem(unread.problem),
    )


def fit(results: Sequence[MutationResult], max_bytes: int) -> tuple[int, set[str]]:
    """Leaves documents out of results until those that stay fit; their bytes, and the keys of
    those that `changes` has to hold instead.

    First go the values that a later result of the same key overtakes: a client adopts results
    in order, so it never misses them.
    """
    if sum(map(_size, results)) > max_bytes:
        last = {result.key: result for result in results if result.problem is UNSET}
        for result in results:
            if result.problem is UNSET and result is not last[result.key]:
                result.value = UNSET
    used, left_out = 0, set()
    for result in results:
        size = _size(result)
        if size and used + size > max_bytes:
            _leave_out(result)
            left_out.add(result.key)
        else:
            used += size
    return used, left_out


def _size(result: MutationResult) -> int:
    held = result.value
    if not isinstance(result.problem, UnsetType):
        document = result.problem.get("document")
        held = document.value if isinstance(document, DocumentView) else UNSET
    return 0 if isinstance(held, UnsetType) else len(bytes(held))


def _leave_out(result: MutationResult) -> None:
    result.value = UNSET
    if not isinstance(result.problem, UnsetType):
        result.problem.pop("document", None)
