"""The same bugs in the real service, planted from outside: its code has no switch for them.

Each is a patch for as long as it is entered. Ids are the key of a table, which would break on one
that is accepted twice; the bugs that forget ids let it pass, so that they show as a loss.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

from app.documents import deciding, statements, store
from app.documents.decide import _Case
from app.documents.gathering import Gathering
from app.documents.own_view import OwnView
from app.documents.workspace import Past, Workspace
from app.ledger import store as ledger_store
from app.ledger.boards import XP
from app.ledger.profile import TOTALS
from app.ledger.work import LedgerWork
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


@contextmanager
def no_dedupe() -> Iterator[None]:
    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    with _ids_accepted_again(), patch.object(store, "read_seen", nothing):
        yield


@contextmanager
def dedupe_keeps_only_the_last_id() -> Iterator[None]:
    read_seen, write_all = store.read_seen, store.write
    last: dict[str, UUID] = {}

    async def write(connection: Any, changes: store.Changes, history: int) -> Any:
        written, era = await write_all(connection, changes, history)
        last.update({row[0]: row[1] for row in changes.seen if row[0] in written})
        return written, era

    async def read(connection: Any, accounts: Any, ids: Any) -> dict[Any, Any]:
        found = await read_seen(connection, accounts, ids)
        return {id: one for id, one in found.items() if last.get(id[0]) == id[1]}

    with (
        _ids_accepted_again(),
        patch.object(store, "write", write),
        patch.object(store, "read_seen", read),
    ):
        yield


def _ids_accepted_again() -> AbstractContextManager[Any]:
    tolerant = f"{statements.WRITES['mutations_seen']}on conflict do nothing"
    return _writing(mutations_seen=tolerant)


@contextmanager
def _writing(**parts: str) -> Iterator[None]:
    """Other parts of the statement that writes a batch."""
    assert parts.keys() <= statements.PARTS.keys()
    with patch.dict(statements.PARTS, parts):
        statements.write.cache_clear()
        yield
    statements.write.cache_clear()


def no_lock() -> AbstractContextManager[Any]:
    """Nobody looks whether the head is still what it was."""
    unchecked = statements.WRITES["written"].replace(
        "and h.seq = w.seq_before and h.tag = w.tag_before", ""
    )
    assert unchecked != statements.WRITES["written"]
    return _writing(written=unchecked)


@contextmanager
def reply_with_the_state_before_the_merge() -> Iterator[None]:
    decide = deciding.Deciding._decide

    def too_early(self: Any, submission: Any, workspace: Any) -> Any:
        before = dict(workspace.documents)
        decisions = decide(self, submission, workspace)
        for decision in decisions if isinstance(decisions, list) else []:
            merged = decision.document if decision.outcome == "merged" else None
            old = None if merged is None else before.get((submission.account, merged.key))
            if merged is not None and old is not None:
                decision.document = replace(merged, stored=old.stored)
        return decisions

    with patch.object(deciding.Deciding, "_decide", too_early):
        yield


def pruned_base_is_bottom() -> AbstractContextManager[Any]:
    base_state = OwnView.base_state

    def bottom(view: OwnView, base: int) -> Any:
        state = base_state(view, base)
        return view.rule.bottom if state is None else state

    return patch.object(OwnView, "base_state", bottom)


def two_devices_with_one_id() -> AbstractContextManager[Any]:
    return patch.object(deciding, "forked", lambda submission, workspace: False)


@contextmanager
def no_dedupe_of_events() -> Iterator[None]:
    read_ledger = ledger_store.read

    async def read(*asked: Any) -> Any:
        work = await read_ledger(*asked)
        work.seen.clear()
        return work

    tolerant = f"{statements.PARTS['events_recorded']}on conflict do nothing"
    with _writing(events_recorded=tolerant), patch.object(ledger_store, "read", read):
        yield


def totals_counted_without_the_tag() -> AbstractContextManager[Any]:
    """When a batch is decided again, on another tag, its totals are those that it read first."""
    read_ledger = Gathering._read_ledger
    first: dict[int, tuple[Any, Any]] = {}

    async def read(self: Any, connection: Any, workspace: Any, events: Any) -> Any:
        work = await read_ledger(self, connection, workspace, events)
        if events:
            _, event = events[0]
            _, totals = first.setdefault(id(event), (event, deepcopy(work.totals)))
            work.totals = deepcopy(totals)
        return work

    return patch.object(Gathering, "_read_ledger", read)


def rejected_events_count() -> AbstractContextManager[Any]:
    decide = LedgerWork.decide

    def count_all(self: LedgerWork, account: str, events: Any) -> Any:
        decisions, steps = decide(self, account, events)
        for decision in decisions:
            if decision.outcome == "rejected" and decision.event.type.name == XP:
                amount = decision.event.payload.amount
                self.totals[account][XP] = self.total(account, XP) + amount
                self.changed.add((account, XP))
        return decisions, steps

    return patch.object(LedgerWork, "decide", count_all)


def totals_in_a_later_commit() -> AbstractContextManager[Any]:
    """Where the batch has edits too, the totals change and their document does not."""
    record = Workspace.record

    def record_others(
        workspace: Workspace, account: str, mutation: Any, decision: Any, **more: Any
    ) -> None:
        if mutation.key != TOTALS or not workspace.new_seen:
            record(workspace, account, mutation, decision, **more)

    return patch.object(Workspace, "record", record_others)


SERVICE_BUGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "base ignored": base_ignored,
    "overwrite instead of join": overwrite_instead_of_join,
    "acknowledge without commit": acknowledge_without_commit,
    "no own view": no_own_view,
    "own view := merged state": own_view_is_merged_state,
    "dedupe keeps only the last id": dedupe_keeps_only_the_last_id,
    "no dedupe": no_dedupe,
    "no lock": no_lock,
    "reply with the state before the merge": reply_with_the_state_before_the_merge,
    "pruned base taken as bottom": pruned_base_is_bottom,
    "two devices with one id": two_devices_with_one_id,
    "no dedupe of events": no_dedupe_of_events,
    "totals counted without the tag": totals_counted_without_the_tag,
    "rejected events count": rejected_events_count,
    "totals in a later commit": totals_in_a_later_commit,
}
