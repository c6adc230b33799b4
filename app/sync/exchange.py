"""Push and pull in one round trip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from app import problems
from app.database.engine import Database
from app.documents.documents import Documents
from app.documents.model import Decision, Mutation
from app.documents.mutations import delete_mutation
from app.documents.pipeline import Submission
from app.documents.types import DeleteQuery, PatchDocument, PutDocument, require_key
from app.errors import Code, SynclineError, cursor_expired
from app.sync import store
from app.sync.cursor import Cursor, decode_cursor
from app.sync.types import Change, MutationBody, MutationResult, SyncAnswer, SyncRequest


@dataclass(frozen=True, slots=True)
class SyncLimits:
    mutations: int
    changes: int
    answer_bytes: int
    """Size of the changes of one answer; one document fits whatever its size."""


class Exchange:
    """Takes a device's mutations and gives it what changed since its cursor."""

    def __init__(self, database: Database, documents: Documents, limits: SyncLimits) -> None:
        self._database = database
        self._documents = documents
        self.era = ""
        """Of the database; known once it is connected."""
        self._limits = limits

    async def sync(self, account: str, request: SyncRequest) -> SyncAnswer:
        """Pushes, then pulls. Raises SynclineError for the request as a whole.

        Nothing is written unless the cursor is good: a client that has to resync does so
        before it pushes, and finds nothing half done.
        """
        self._check(request)
        after = self._position(request.cursor)
        results = await self._push(account, request, after)
        limit = min(request.limit or self._limits.changes, self._limits.changes)
        return await self._pull(account, after, limit, results)

    def _check(self, request: SyncRequest) -> None:
        limit = self._limits.mutations
        if len(request.mutations) > limit:
            raise SynclineError(
                Code.INVALID_REQUEST, f"One sync takes {limit} mutations: send the rest after it."
            )
        if request.events:
            raise SynclineError(
                Code.EVENTS_UNAVAILABLE, "Keep the events, and send the mutations without them."
            )

    def _position(self, text: str | None) -> int:
        if text is None:
            return 0
        cursor = decode_cursor(text)
        if cursor.era != self.era:
            raise cursor_expired()
        return cursor.seq

    async def _push(self, account: str, request: SyncRequest, after: int) -> list[MutationResult]:
        """Results in the order of the mutations; what cannot be read is rejected by itself."""
        read = [self._read(body, request) for body in request.mutations]
        mutations = [one for one in read if isinstance(one, Mutation)]
        decisions: Sequence[Decision] = ()
        if mutations:
            submission = Submission(account, mutations, request.device, after=after)
            if request.previous is not UNSET and request.device is not None:
                submission.checks_fork = True
                submission.previous = (
                    None if isinstance(request.previous, UnsetType) else request.previous
                )
            decisions = await self._documents.push(submission)
        decided = iter(zip(mutations, decisions, strict=True))
        return [
            _rejected(body, one) if isinstance(one, SynclineError) else _result(*next(decided))
            for body, one in zip(request.mutations, read, strict=True)
        ]

    def _read(self, body: MutationBody, request: SyncRequest) -> Mutation | SynclineError:
        now_ms = self._documents.clock()
        try:
            require_key(body.key)
            _refuse_misplaced(body)
            if body.op == "put":
                if isinstance(body.value, UnsetType):
                    raise SynclineError(Code.INVALID_REQUEST, "A put needs a `value`.")
                put = PutDocument(
                    value=body.value,
                    base=body.base,
                    base_value=body.base_value,
                    device=request.device,
                    id=body.id,
                    edited_at=body.edited_at,
                    sent_at=request.sent_at,
                )
                return self._documents.intake.put(body.key, put, now_ms)
            if body.op == "patch":
                patch = PatchDocument(
                    id=body.id,
                    base=body.base,
                    device=request.device,
                    edited_at=body.edited_at,
                    sent_at=request.sent_at,
                    delta={} if isinstance(body.delta, UnsetType) else body.delta,
                    set={} if isinstance(body.set, UnsetType) else body.set,
                    operations=[] if isinstance(body.operations, UnsetType) else body.operations,
                )
                return self._documents.intake.patch(body.key, patch, now_ms)
            query = DeleteQuery(base=body.base, device=request.device, id=body.id)
            return delete_mutation(body.key, query, now_ms)
        except SynclineError as error:
            return error

    async def _pull(
        self, account: str, after: int, limit: int, results: list[MutationResult]
    ) -> SyncAnswer:
        async with self._database.connection() as connection:
            head, rows, more = await store.read_changes(
                connection, account, after, limit, self._limits.answer_bytes
            )
        if after > head:
            raise cursor_expired()
        seq = rows[-1]["seq"] if more else head
        told = {(result.key, result.version) for result in results if result.problem is UNSET}
        return SyncAnswer(
            cursor=Cursor(self.era, seq).encode(),
            results=results,
            changes=[_change(row) for row in rows if (row["key"], row["version"]) not in told],
            more=more,
            server_time=self._documents.clock(),
        )


def _refuse_misplaced(body: MutationBody) -> None:
    """A field that its `op` would not look at is a mistake, not something to drop."""
    put_only: dict[str, Any] = {"value": body.value, "base_value": body.base_value}
    patch_only: dict[str, Any] = {
        "delta": body.delta,
        "set": body.set,
        "operations": body.operations,
    }
    misplaced: dict[str, dict[str, Any]] = {
        "put": patch_only,
        "patch": put_only,
        "delete": {**put_only, **patch_only},
    }
    for name, value in misplaced[body.op].items():
        if value is not UNSET:
            raise SynclineError(Code.INVALID_REQUEST, f"A {body.op} takes no `{name}`.")


def _result(mutation: Mutation, decision: Decision) -> MutationResult:
    assert mutation.id is not None
    document = decision.document
    if decision.problem is not None:
        version = None if document is None else document.version
        return _rejected_mutation(mutation, decision.problem, version)
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


def _rejected_mutation(
    mutation: Mutation, error: SynclineError, version: int | None
) -> MutationResult:
    assert mutation.id is not None
    return MutationResult(
        id=mutation.id,
        outcome="rejected",
        key=mutation.key,
        version=UNSET if version is None else version,
        problem=problems.problem(error),
    )


def _rejected(body: MutationBody, error: SynclineError) -> MutationResult:
    return MutationResult(
        id=body.id, outcome="rejected", key=body.key, problem=problems.problem(error)
    )


def _change(row: Any) -> Change:
    value = row["value"]
    return Change(
        key=row["key"],
        version=row["version"],
        value=Raw(b"null" if value is None else value.encode()),
        deleted=value is None,
        updated_at=row["updated_at_ms"],
        device=row["device"],
    )
