"""What becomes of one mutation: pure, from what was read to what is to be written.

The algebra is that of `merge_rules`. A write on the current version advances it; a write on an
older one is `current ⊔ delta(base', value)`, where base' is the state of the base joined with
what this device itself proposed since (its *own view*). Without the own view a device that
queues two writes on one base loses the second one's undo.
"""

from asyncio import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog
from msgspec import Raw

from app.documents.model import Decision, History, Limits, Mutation, Proposed, Snapshot
from app.documents.own_view import OwnView
from app.documents.refusals import refused
from app.documents.types import DocumentView
from app.errors import Code, SynclineError
from merge_rules.canonical import MAX_DEPTH, too_deep, too_many_keys
from merge_rules.receipt import explain
from merge_rules.refusal import (
    NotCanonical,
    OperationRefused,
    Refusal,
)
from merge_rules.rule import ABSENT, Rule, State
from merge_rules.state import Stored, encode
from merge_rules.verification.time_limit import TimeUp, time_limit

log = structlog.get_logger()

FAILURES = (Exception, SystemExit, GeneratorExit, CancelledError, TimeUp)
"""What an app's own code may raise, or what ends it: nothing of it may end more than one write."""
RULE_LIMIT_S = 1.0
"""For one mutation by a rule of an app's own, which may loop; nobody else is served meanwhile."""


def decide(
    mutation: Mutation,
    rule: Rule,
    current: Snapshot | None,
    history: History,
    limits: Limits,
    now_ms: int,
) -> Decision:
    """Decides one mutation. It never raises: what is wrong rejects this mutation alone."""
    case = _Case(mutation, rule, current, history, limits, now_ms)
    try:
        if rule.built_in:
            decision = case.decide()
        else:
            with time_limit(RULE_LIMIT_S):
                decision = case.decide()
        decision.base = case.base
        return decision
    except SynclineError as error:
        return Decision(None, current, problem=error.as_value())
    except Refusal as refusal:
        return Decision(None, current, problem=refused(refusal))
    except FAILURES:
        # Rules are an app's own code: whatever one does, the other mutations stand.
        log.exception("rule failed", rule=type(rule).__name__, key=mutation.key)
        detail = f"The rule of {mutation.key!r} failed on this write; the service's log says how."
        return Decision(None, current, problem=SynclineError(Code.RULE_FAILED, detail))


def view(document: Snapshot) -> DocumentView:
    """The document as the wire shows it."""
    return DocumentView(
        key=document.key,
        version=document.version,
        value=Raw(document.stored.value or b"null"),
        deleted=document.deleted,
        updated_at=document.updated_at_ms,
    )


@dataclass(slots=True)
class _Case:
    """One mutation and all that bears on it."""

    mutation: Mutation
    rule: Rule
    current: Snapshot | None
    history: History
    limits: Limits
    now_ms: int

    base: int | None = None
    """The version that the device's copy came from, its own delete or reset seen."""

    def _view(self, current: Snapshot) -> OwnView:
        return OwnView(self.mutation, self.rule, current, self.history, self.now_ms)

    def decide(self) -> Decision:
        mutation, current = self.mutation, self.current
        if mutation.if_match is not None or mutation.if_none_match:
            self._check_preconditions()
        if current is None or mutation.base is None or mutation.base >= current.epoch_version:
            self.base = mutation.base
        else:
            self.base = self._view(current).base
        match mutation.op:
            case "put":
                return self._put()
            case "patch":
                return self._patch()
            case "delete":
                return self._delete()
            case "restore":
                return self._restore()
            case "fold":
                return self._fold()
            case "project":
                return self._project()
            case "import":
                return self._import()

    def _check_preconditions(self) -> None:
        """If-Match and If-None-Match, for callers who want a lock and no merge."""
        exists = self.current is not None and not self.current.deleted
        wanted = self.mutation.if_match
        if wanted == "*" and not exists:
            raise self._problem(Code.PRECONDITION_FAILED, "There is no document to match.")
        if isinstance(wanted, int) and (self.current is None or self.current.version != wanted):
            raise self._problem(
                Code.PRECONDITION_FAILED,
                "Somebody else wrote first: take the current document, edit it again, and send "
                "its version in If-Match.",
            )
        if self.mutation.if_none_match and exists:
            raise self._problem(Code.PRECONDITION_FAILED, "The document exists already.")

    # --- put ---------------------------------------------------------------------------------

    def _put(self) -> Decision:
        mutation, current = self.mutation, self.current
        self.rule.check(mutation.value)
        if current is None:
            return self._advance(self.rule.bottom)
        base = self.base
        if base == current.version:
            return self._advance(self._state(current))
        if base is not None and base < current.epoch_version:
            return self._superseded(current)
        view = self._view(current)
        if current.deleted and view.base_unknown:
            return self._advance(self._state(current))
        if self.rule.name == "strict":
            raise self._strict_conflict(view)
        seen = view.known()
        if seen is not None:
            return self._merge(view, seen)
        seen = view.made_up()
        if seen is None and self.rule.needs_base:
            raise self._problem(
                Code.BASE_UNKNOWN,
                "Send the write again with `base_value`, the document that the device had when "
                "it was edited; or take the current document and edit that.",
            )
        if seen is None:
            # Undated, the write was made now, after all that the service holds.
            seen = view.chain() if mutation.dated else self._state(current)
        return self._merge(view, seen, known=False)

    def _strict_conflict(self, view: OwnView) -> SynclineError:
        code = Code.BASE_UNKNOWN if view.base_unknown else Code.CONFLICT
        return self._problem(
            code, "This document is never merged: take the current one, edit it, and send that."
        )

    # --- patch, delete, restore --------------------------------------------------------------

    def _patch(self) -> Decision:
        current, mutation = self.current, self.mutation
        if current is not None and self.base is not None and self.base < current.epoch_version:
            return self._superseded(current)
        state = self.rule.bottom if current is None else self._state(current)
        delta, reset = self.rule.bottom, False
        for operation in mutation.operations:
            if operation.begins_document:
                state = delta = self.rule.bottom
                reset = True
                continue
            if operation.op == "unset" and not operation.path:
                raise OperationRefused((), "`unset` takes a path; delete the document instead")
            change = self.rule.operate(state, operation, operation.path, mutation.stamp)
            state = self.rule.apply(state, change)
            delta = self.rule.apply(delta, change)
        stored = self._encode(state)
        ends_empty = not mutation.operations or mutation.operations[-1].begins_document
        if not reset and (current is None or current.deleted):
            # Nothing can be taken away from what is not there, so nothing is made.
            ends_empty = all(operation.takes_away for operation in mutation.operations)
        if ends_empty or stored.value is None:
            return self._bury() if reset else self._unchanged_or_absent()
        if too_deep(stored.value, MAX_DEPTH):
            raise NotCanonical((), f"the result is nested deeper than {MAX_DEPTH} levels")
        if reset and current is not None:
            decision = self._write(stored, current.epoch + 1, self._next_version())
        else:
            proposed = Proposed(self._encode(self._patched_view(delta)))
            decision = self._write_state(state, stored, proposed)
        if mutation.receipt:
            held = self.rule.bottom if current is None else self._state(current)
            self._explain(decision, held, state)
        return decision

    def _patched_view(self, delta: State) -> State:
        """The device's own view once its operations made this delta on the current document."""
        current, mutation = self.current, self.mutation
        if current is None or mutation.device is None:
            return delta
        view = self._view(current)
        seen = view.known()
        if seen is None:
            # It proposes its own change, and so does not stand for all that the device held.
            seen, self.base = view.chain(), None
        else:
            # The device made them on its copy, where they may have had another result.
            with suppress(Refusal):
                copy = seen
                for operation in mutation.operations:
                    change = self.rule.operate(copy, operation, operation.path, mutation.stamp)
                    copy = self.rule.apply(copy, change)
                value = self.rule.value(copy)
                if value is not ABSENT:
                    joined = self.rule.apply(copy, delta)
                    return self.rule.advance(joined, value, mutation.stamp)
        return self.rule.apply(seen, delta)

    def _unchanged_or_absent(self) -> Decision:
        if self.current is None:
            raise SynclineError(Code.DOCUMENT_NOT_FOUND, "There is no document to change.")
        return Decision("unchanged", self.current)

    def _delete(self) -> Decision:
        current, base = self.current, self.base
        if current is not None and base is not None and base < current.epoch_version:
            # Another delete came first, and whatever was written since had seen that one.
            return Decision("unchanged", current)
        decision = self._bury()
        if decision.outcome == "applied" and current is not None and base is not None:
            decision.outcome = "applied" if base >= current.version else "merged"
        return decision

    def _bury(self) -> Decision:
        """Raises the epoch and leaves a tombstone: every edit that had not seen it is beaten."""
        current = self.current
        if current is None or current.deleted:
            return self._unchanged_or_absent()
        return self._write(Stored(None, b""), current.epoch + 1, self._next_version())

    def _restore(self) -> Decision:
        """Takes back an earlier version, in a new epoch, since rules only ever move up."""
        current, version = self.current, self.mutation.revision
        if current is None:
            raise SynclineError(Code.DOCUMENT_NOT_FOUND, "There is no such document.")
        if version == current.version:
            return Decision("unchanged", current)
        revision = self.history.base(current.key, version)
        if revision is None:
            raise SynclineError(Code.REVISION_NOT_FOUND, "That version is not kept any more.")
        if revision.deleted:
            raise SynclineError(
                Code.REVISION_DELETED, "That version is a deletion: delete the document instead."
            )
        stored = self._encode(self._state(revision))
        return self._write(stored, current.epoch + 1, self._next_version())

    def _fold(self) -> Decision:
        """Forgets what only devices and edits past the horizon need; the value stays."""
        current, horizon = self.current, self.mutation.horizon
        assert horizon is not None
        if current is None or current.deleted:
            return Decision("unchanged", current)
        state = self.rule.fold(self._state(current), horizon.before_ms, horizon.alive)
        stored = self._encode(state)
        grown = len(stored.sidecar) >= len(current.stored.sidecar)
        if grown or stored.value != current.stored.value:
            return Decision("unchanged", current)
        folded = replace(
            current,
            stored=stored,
            rule=self.rule.fingerprint,
            folded_version=current.version,
            state=state,
        )
        return Decision("unchanged", folded, change="sidecar")

    def _project(self) -> Decision:
        """Events change a document that only the service writes, always on its current state."""
        current, projection = self.current, self.mutation.projection
        assert projection is not None
        try:
            held = self.rule.bottom if current is None else self._state(current)
        except SynclineError:
            # A client wrote it before the key was the service's own, and it is no such document.
            assert current is not None
            stored = self._encode(projection(self.rule, self.rule.bottom))
            return self._write(stored, current.epoch + 1, self._next_version())
        state = projection(self.rule, held)
        return self._write_state(state, self._encode(state), None)

    def _import(self) -> Decision:
        """Joins what an earlier system knew: a state that no device of this one has seen.

        It is decided by the value and its date alone, so that repeating it changes nothing.
        """
        current, mutation = self.current, self.mutation
        self.rule.check(mutation.value)
        if current is not None and current.epoch > 0:
            return self._superseded(current)
        state = self.rule.adopt(mutation.value, mutation.stamp)
        if current is None:
            return self._write_state(state, self._encode(state), None)
        if self.rule.name == "strict":
            if self._encode(state).value == current.stored.value:
                return Decision("unchanged", current)
            raise self._problem(
                Code.CONFLICT, "This document is never merged, and another one stands here."
            )
        joined = self.rule.join(self._state(current), state)
        decision = self._write_state(joined, self._encode(joined), Proposed(self._encode(state)))
        if decision.outcome == "applied":
            decision.outcome = "merged"
            self._explain(decision, self.rule.bottom, state)
        else:
            decision.proposed = None  # nobody goes on from it
        return decision

    # --- outcomes ----------------------------------------------------------------------------

    def _advance(self, base: State) -> Decision:
        """The base was current, or nothing is there: the device's state is the document's."""
        state = self.rule.advance(base, self.mutation.value, self.mutation.stamp)
        decision = self._write_state(state, self._encode(state), None)
        if self.mutation.receipt:
            self._explain(decision, base, state)
        return decision

    def _merge(self, view: OwnView, seen: State, *, known: bool = True) -> Decision:
        delta = self.rule.delta(seen, self.mutation.value, self.mutation.stamp)
        changed = self.rule.join(seen, delta)
        proposed = view.proposed(changed, delta, known=known)
        state = self.rule.join(self._state(view.current), delta)
        decision = self._write_state(state, self._encode(state), proposed)
        if decision.outcome == "applied":
            decision.outcome = "merged"
        if decision.outcome == "merged" or self.mutation.receipt:
            self._explain(decision, seen, changed)
        return decision

    def _superseded(self, current: Snapshot) -> Decision:
        return Decision("superseded", current, receipt=[])

    def _write_state(self, state: State, stored: Stored, proposed: Proposed | None) -> Decision:
        """Writes within the present epoch; a value that stays makes no new version."""
        if stored.value is None:
            raise ValueError("after a write the rule shows no value")
        current = self.current
        if current is None or stored.value != current.stored.value:
            if proposed == Proposed(stored):
                proposed = None
            epoch = (0, 0) if current is None else (current.epoch, current.epoch_version)
            decision = self._write(stored, *epoch, proposed)
            assert decision.document is not None
            decision.document.state = state
            return decision
        if stored.sidecar == current.stored.sidecar and self.rule.fingerprint == current.rule:
            return Decision("unchanged", current, proposed=proposed)
        self._refuse_too_large(stored)
        # Same value, but more is known about it (a later stamp, another counter entry).
        same = replace(current, stored=stored, rule=self.rule.fingerprint, state=state)
        return Decision("unchanged", same, change="sidecar", proposed=proposed or Proposed(stored))

    def _write(
        self, stored: Stored, epoch: int, epoch_version: int, proposed: Proposed | None = None
    ) -> Decision:
        self._refuse_too_large(stored)
        snapshot = self._snapshot(stored, self._next_version(), epoch, epoch_version)
        created = (self.current is None or self.current.deleted) and not snapshot.deleted
        return Decision("applied", snapshot, created=created, change="version", proposed=proposed)

    def _explain(self, decision: Decision, seen: State, proposed: State) -> None:
        assert decision.document is not None
        held = self.rule.bottom if self.current is None else self._state(self.current)
        decision.receipt = explain(
            self.rule,
            self.rule.value(seen),
            self.rule.value(proposed),
            self.rule.value(held),
            self.rule.value(self._state(decision.document)),
        )

    # --- states ------------------------------------------------------------------------------

    def _state(self, snapshot: Snapshot) -> State:
        return (
            snapshot.state if snapshot.state is not ABSENT else self._view(snapshot).state(snapshot)
        )

    def _encode(self, state: State) -> Stored:
        return encode(self.rule, state)

    def _next_version(self) -> int:
        return 1 if self.current is None else self.current.version + 1

    def _snapshot(self, stored: Stored, version: int, epoch: int, epoch_version: int) -> Snapshot:
        return Snapshot(
            key=self.mutation.key,
            version=version,
            epoch=epoch,
            epoch_version=epoch_version,
            folded_version=0 if self.current is None else self.current.folded_version,
            stored=stored,
            rule=self.rule.fingerprint,
            device=self.mutation.device,
            updated_at_ms=self.now_ms,
            base=self.base,
        )

    def _refuse_too_large(self, stored: Stored) -> None:
        limit = self.limits.document_bytes
        if len(stored.value or b"") > limit or len(stored.sidecar) > limit:
            raise SynclineError(
                Code.DOCUMENT_TOO_LARGE,
                f"A document may have {limit} bytes: split it over several keys.",
                limit=limit,
            )
        keys = self.limits.document_keys
        if stored.value is not None and too_many_keys(stored.value, keys):
            raise NotCanonical((), f"the document would have more than {keys} object keys")

    def _problem(self, code: Code, detail: str) -> SynclineError:
        if self.current is None:
            return SynclineError(code, detail)
        return SynclineError(code, detail, document=view(self.current))
