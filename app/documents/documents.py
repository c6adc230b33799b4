"""What can be done with documents: the verbs that routes and other features call."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import structlog
from msgspec import UNSET, Raw, convert

from app.clock import Clock
from app.database.engine import Database
from app.documents import archive_store, store
from app.documents.decide import RULE_LIMIT_S
from app.documents.gate import Gate
from app.documents.model import Decision, Mutation, Snapshot
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline
from app.documents.reader import Reader
from app.documents.submission import Submission
from app.documents.types import (
    DocumentEntry,
    DocumentList,
    ReceiptEntry,
    RevisionEntry,
    RevisionList,
    RevisionView,
)
from app.errors import Code, SynclineError
from merge_rules.canonical import decode as decode_json
from merge_rules.receipt import Receipt, explain
from merge_rules.registry import Registry
from merge_rules.rule import ABSENT
from merge_rules.verification.time_limit import TimeUp, time_limit

log = structlog.get_logger()

DocumentReader = Reader[store.DocumentId, Snapshot | None]
Rejected = Callable[[str, str, SynclineError], None]
"""Told of each refusal: account, key of the document or EVENTS and a type, problem. It takes note
and returns at once."""
EVENTS = "events/"
"""With a slash, which no key has."""


class Documents:
    """The documents of all accounts; every call names its own."""

    def __init__(
        self,
        database: Database,
        pipeline: Pipeline,
        reader: DocumentReader,
        registry: Registry,
        intake: Intake,
        clock: Clock,
        history: int,
        rejected: Rejected = lambda *_: None,
    ) -> None:
        self._database = database
        self._pipeline = pipeline
        self._reader = reader
        self._registry = registry
        self._history = history
        self.intake = intake
        self.clock = clock
        self.rejected = rejected
        self.gate = Gate()

    async def write(self, account: str, mutation: Mutation) -> Decision:
        """Writes one mutation; raises its problem if it is rejected."""
        (decision,) = await self._pipeline.submit(Submission(account, [mutation]))
        if decision.problem is not None:
            self.rejected(account, mutation.key, decision.problem)
            raise decision.problem.again()
        return decision

    async def push(self, submission: Submission) -> list[Decision]:
        """Writes several mutations in order; a rejected one is a decision with a problem."""
        decisions = await self._pipeline.submit(submission)
        for mutation, decision in zip(submission.mutations, decisions, strict=True):
            if decision.problem is not None and mutation.op != "fold":
                self.rejected(submission.account, mutation.key, decision.problem)
        for one in submission.recorded:
            if one.problem is not None:
                self.rejected(submission.account, EVENTS + one.event.type.name, one.problem)
        return decisions

    async def read(self, account: str, key: str) -> Snapshot:
        """The document; raises DOCUMENT_NOT_FOUND or DOCUMENT_DELETED."""
        document = await self._reader.read(account, (account, key))
        if document is None:
            raise SynclineError(Code.DOCUMENT_NOT_FOUND, f"There is no document {key!r} yet.")
        if document.deleted:
            raise SynclineError(
                Code.DOCUMENT_DELETED,
                "It was deleted: a write on the version given here starts it afresh.",
                version=document.version,
            )
        return document

    async def list(self, account: str) -> DocumentList:
        rows = await self._database.read(
            lambda connection: archive_store.list_documents(connection, account)
        )
        return DocumentList([DocumentEntry(*row) for row in rows])

    async def revisions(self, account: str, key: str) -> RevisionList:
        """The kept versions, newest first; raises DOCUMENT_NOT_FOUND if there never was one."""

        async def ask(connection: Any) -> list[Any]:
            current = await store.read_document(connection, account, key)
            if current is None:
                raise SynclineError(Code.DOCUMENT_NOT_FOUND, f"There is no document {key!r} yet.")
            oldest = current.version - self._history
            return await archive_store.list_revisions(connection, account, key, oldest)

        return RevisionList(
            key,
            [
                RevisionEntry(
                    version=row["version"],
                    deleted=row["deleted"],
                    bytes=row["bytes"],
                    outcome=row["outcome"],
                    base=row["base"],
                    device=row["device"],
                    id=None if row["mutation"] is None else str(row["mutation"]),
                    updated_at=row["updated_at_ms"],
                )
                for row in await self._database.read(ask)
            ],
        )

    async def revision(
        self, account: str, key: str, version: int, *, receipt: bool = False
    ) -> RevisionView:
        """One kept version; raises REVISION_NOT_FOUND."""

        async def ask(connection: Any) -> dict[int, Any]:
            current = await store.read_document(connection, account, key)
            rows = await archive_store.read_revisions(
                connection, account, key, [version, version - 1]
            )
            if current is None or version <= current.version - self._history:
                rows.clear()
            return rows

        rows = await self._database.read(ask)
        row = rows.get(version)
        if row is None:
            raise SynclineError(
                Code.REVISION_NOT_FOUND, "GET the list of revisions for those that are kept."
            )
        found = self._explain(key, row, rows.get(version - 1)) if receipt else None
        explained = None if found is None else wire_receipt(found)
        return RevisionView(
            key=key,
            version=version,
            value=Raw((row["value"] or "null").encode()),
            deleted=row["value"] is None,
            bytes=len((row["value"] or "").encode()),
            outcome=row["outcome"],
            base=row["base"],
            device=row["device"],
            id=None if row["mutation"] is None else str(row["mutation"]),
            updated_at=row["updated_at_ms"],
            receipt=explained if receipt else UNSET,
        )

    def _explain(self, key: str, row: Any, before: Any | None) -> Receipt | None:
        """The receipt of a kept version: stored if it was merged, else from the one before."""
        if row["receipt"] is not None:
            return archive_store.load_receipt(row["receipt"])
        if before is None and row["version"] > 1:
            return None
        rule = self._registry.rule_for(key)
        seen, result = _plain(before), _plain(row)
        try:
            with nullcontext() if rule.built_in else time_limit(RULE_LIMIT_S):
                return explain(rule, seen, result, seen, result)
        except (Exception, TimeUp) as error:
            # Rules are an app's own code.
            log.exception("rule failed", rule=type(rule).__name__, key=key)
            detail = f"The rule of {key!r} cannot explain this version; the service's log says how."
            raise SynclineError(Code.RULE_FAILED, detail) from error


def wire_receipt(receipt: Receipt) -> list[ReceiptEntry]:
    return convert(receipt, list[ReceiptEntry])


def _plain(row: Any | None) -> Any:
    """The plain value of a kept version; ABSENT where there was none."""
    return ABSENT if row is None or row["value"] is None else decode_json(row["value"])
