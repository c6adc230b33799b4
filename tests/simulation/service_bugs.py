"""The same bugs in the real service, planted from outside: its code has no switch for them.

Each is a patch for as long as it is entered. Where the database itself stands in the way of a
bug (an id that is accepted twice breaks a key), the bug shows as an error and not as a loss.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from app.documents import pipeline, statements, store
from app.documents.decide import _Case
from app.documents.own_view import OwnView
from app.documents.workspace import Past, Workspace
from tests.simulation.gate import Gate


def base_ignored() -> AbstractContextManager[Any]:
    return patch.object(OwnView, "base_state", lambda self, base: self.state(self.current))


def overwrite_instead_of_join() -> AbstractContextManager[Any]:
    merge = _Case._merge

    def overwrite(case: _Case, view: OwnView, seen: Any, *, known: bool = True) -> Any:
        blind = replace(view, current=replace(view.current, state=seen))
        return merge(case, blind, seen, known=known)

    return patch.object(_Case, "_merge", overwrite)


def acknowledge_without_commit() -> AbstractContextManager[Any]:
    return patch.object(Gate, "lies", True)


def no_own_view() -> AbstractContextManager[Any]:
    return patch.object(Past, "own", lambda self, key, device, base: [])


def own_view_is_merged_state() -> AbstractContextManager[Any]:
    record = Workspace.record

    def forget_the_proposal(
        workspace: Workspace, account: str, mutation: Any, decision: Any, **more: Any
    ) -> None:
        decision.proposed = None
        record(workspace, account, mutation, decision, **more)

    return patch.object(Workspace, "record", forget_the_proposal)


def no_dedupe() -> AbstractContextManager[Any]:
    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    return patch.object(store, "read_seen", nothing)


def no_lock() -> AbstractContextManager[Any]:
    unlocked = statements.LOCK_HEADS.replace("for update", "")
    return patch.object(statements, "LOCK_HEADS", unlocked)


@contextmanager
def reply_with_the_state_before_the_merge() -> Iterator[None]:
    decide = pipeline.Pipeline._decide

    def too_early(self: Any, submission: Any, workspace: Any) -> Any:
        before = dict(workspace.documents)
        decisions = decide(self, submission, workspace)
        for decision in decisions if isinstance(decisions, list) else []:
            merged = decision.document if decision.outcome == "merged" else None
            old = None if merged is None else before.get((submission.account, merged.key))
            if merged is not None and old is not None:
                decision.document = replace(merged, stored=old.stored)
        return decisions

    with patch.object(pipeline.Pipeline, "_decide", too_early):
        yield


def pruned_base_is_bottom() -> AbstractContextManager[Any]:
    base_state = OwnView.base_state

    def bottom(view: OwnView, base: int) -> Any:
        state = base_state(view, base)
        return view.rule.bottom if state is None else state

    return patch.object(OwnView, "base_state", bottom)


def two_devices_with_one_id() -> AbstractContextManager[Any]:
    return patch.object(pipeline, "_forked", lambda submission, workspace: False)


SERVICE_BUGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "base ignored": base_ignored,
    "overwrite instead of join": overwrite_instead_of_join,
    "acknowledge without commit": acknowledge_without_commit,
    "no own view": no_own_view,
    "own view := merged state": own_view_is_merged_state,
    "no dedupe": no_dedupe,
    "no lock": no_lock,
    "reply with the state before the merge": reply_with_the_state_before_the_merge,
    "pruned base taken as bottom": pruned_base_is_bottom,
    "two devices with one id": two_devices_with_one_id,
}
"""All but `dedupe keeps only the last id`: ids are a table's key, which keeps all or none."""
