"""Step 4 of the life of a write: what becomes of each mutation and event of a batch.

In memory, from what a workspace holds, and in order: each sees what those before it changed.
"""

import asyncio
from collections.abc import Sequence

from app.documents.decide import decide
from app.documents.forks import forked, is_behind
from app.documents.model import Decision, Limits, Mutation
from app.documents.mutations import project_mutation
from app.documents.submission import Submission
from app.documents.workspace import Workspace
from app.errors import Code, SynclineError, cursor_expired
from app.ledger.model import EventDecision
from app.ledger.profile import PROFILE, SERVER_OWNED, TOTALS, profile_with, totals_of
from merge_rules.registry import Registry

DECIDED_AT_ONCE = 64
"""Mutations that are decided before other requests have their turn."""
BY_CLIENTS = ("put", "patch", "delete", "restore")
"""What a client may ask for; not of documents that the service computes."""

Answers = dict[Submission, list[Decision] | SynclineError]


class NotProjected(Exception):
    """What events count for cannot become part of a document of the service's own."""

    def __init__(self, key: str, why: SynclineError) -> None:
        super().__init__(f"{key}: {why}")
        detail = f"What it counts for does not fit into the document {key!r}: {why.detail}"
        self.problem = SynclineError(Code.PROJECTION_FAILED, detail)


class Deciding:
    """Decides by the rules of a registry, within limits."""

    def __init__(self, registry: Registry, limits: Limits, max_documents: int) -> None:
        """`max_documents`: of one account."""
        self._registry = registry
        self._limits = limits
        self._max_documents = max_documents

    async def decide_all(self, batch: Sequence[Submission], workspace: Workspace) -> Answers:
        """A decision for each mutation of a submission, or why there is none for the whole.

        Raises NotProjected.
        """
        answers: Answers = {}
        size = 0
        for submission in batch:
            answers[submission] = self._decide(submission, workspace)
            size += submission.size
            if size >= DECIDED_AT_ONCE:
                await asyncio.sleep(0)
                size = 0
        return answers

    def _decide(
        self, submission: Submission, workspace: Workspace
    ) -> list[Decision] | SynclineError:
        head = workspace.heads[submission.account]
        if submission.after > head.seq or not submission.of_this_era():
            return cursor_expired()
        if submission.checks_fork and forked(submission, workspace):
            return SynclineError(
                Code.DEVICE_FORKED,
                "This local store is a copy of another: take a new random device id, and send "
                "the same mutations again under it.",
            )
        behind = submission.checks_fork and is_behind(submission, workspace)
        before = workspace.seqs[submission.account]
        decisions = []
        for mutation in submission.mutations:
            decision = self._decide_one(submission.account, mutation, workspace)
            if decision.outcome == "duplicate":
                # A copy that is behind may be known by another id by now: what it sent is not
                # what the store that kept this id has seen.
                if not behind:
                    workspace.inherit(submission.account, mutation)
            elif decision.problem is None:
                numbered = submission.numbered
                workspace.record(submission.account, mutation, decision, numbered=numbered)
            decisions.append(decision)
        submission.recorded = self._record(submission, workspace)
        submission.seqs = (before, workspace.seqs[submission.account])
        return decisions

    def _record(self, submission: Submission, workspace: Workspace) -> list[EventDecision]:
        """Decides the events, and lets them change the documents of the service's own."""
        if not submission.events:
            return []
        account, ledger = submission.account, workspace.ledger
        recorded, steps = ledger.decide(account, submission.events)
        if all(one.outcome != "accepted" for one in recorded):
            return recorded
        projections = [(TOTALS, totals_of(ledger.shown(account)))]
        if steps:
            projections.append((PROFILE, profile_with(steps)))
        for key, projection in projections:
            mutation = project_mutation(key, projection, workspace.now_ms)
            decision = self._decide_one(account, mutation, workspace)
            if decision.problem is not None:
                # No event is accepted whose effect is not to be seen: each is tried alone.
                raise NotProjected(key, decision.problem)
            workspace.record(account, mutation, decision, numbered=False)
        return recorded

    def _decide_one(self, account: str, mutation: Mutation, workspace: Workspace) -> Decision:
        current = workspace.documents.get((account, mutation.key))
        if mutation.id is not None:
            accepted = workspace.seen.get((account, mutation.id))
            if accepted is not None and accepted.digest == mutation.digest:
                return Decision("duplicate", current)
            if accepted is not None:
                detail = "This id was used for another mutation: give each its own random id."
                return Decision(None, current, problem=SynclineError(Code.ID_REUSED, detail))
        if mutation.key in SERVER_OWNED and mutation.op in BY_CLIENTS:
            return Decision(None, current, problem=_server_owned(mutation.key))
        limit = self._max_documents
        makes_one = current is None and mutation.op in ("put", "patch", "import")
        if makes_one and workspace.counts.get(account, 0) >= limit:
            detail = f"An account may have {limit} documents: put more into each."
            problem = SynclineError(Code.TOO_MANY_DOCUMENTS, detail, limit=limit)
            return Decision(None, current, problem=problem)
        rule = self._registry.rule_for(mutation.key)
        past = workspace.past(account)
        return decide(mutation, rule, current, past, self._limits, workspace.now_ms)


def _server_owned(key: str) -> SynclineError:
    return SynclineError(
        Code.SERVER_OWNED,
        f"The service computes {key!r} from events, so no client writes it: record an event "
        "instead.",
    )
