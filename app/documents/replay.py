"""What documents would be if their kept revisions had been merged by other rules."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from app.database.engine import Database
from app.documents import archive_store, store
from app.documents.archive_store import Revision
from app.documents.own_view import decode_state
from app.errors import SynclineError
from merge_rules.canonical import decode as decode_json
from merge_rules.receipt import explain
from merge_rules.refusal import Refusal, parse_pointer
from merge_rules.registry import Registry
from merge_rules.rule import ABSENT, Rule, State

PORTION = 500
IMPORTS = "import:"
"""How the devices begin as which imports write."""
FormerRule = Callable[[str], Rule | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """One path of a document: as it is stored, and as the other rule would have made it."""

    path: str
    stored: Any
    replayed: Any


@dataclass(slots=True)
class Replayed:
    """A document under the other rule; `problem` says why it could not be replayed."""

    account: str
    key: str
    rule_changed: bool
    differences: list[Difference] = field(default_factory=list)
    problem: str | None = None


async def replay_all(database: Database, registry: Registry) -> AsyncIterator[Replayed]:
    """Every document of every account, in order of account and key; nothing is written."""
    async with database.connection() as connection:
        for _, fingerprint, definition in await store.read_rules(connection):
            registry.remember(fingerprint, definition)
    after = ("", "")
    while True:
        async with database.connection() as connection:
            portion = await archive_store.list_keys(connection, after, PORTION)
            for account, key in portion:
                history = await archive_store.read_history(connection, account, key)
                yield replay_document(account, registry.rule_for(key), history, registry.made_by)
        if len(portion) < PORTION:
            return
        after = portion[-1]


def replay_document(
    account: str, rule: Rule, history: Sequence[Revision], former_rule: FormerRule
) -> Replayed:
    """Replays one document from its oldest kept revision on; pure."""
    newest = history[-1].document
    replayed = Replayed(account, newest.key, newest.rule != rule.fingerprint)
    if not replayed.rule_changed or newest.deleted:
        return replayed
    try:
        state = _replay(rule, history, former_rule)
        stored, result = _value(newest.stored.value), rule.value(state)
        found = explain(rule, stored, result, stored, result)
    except (SynclineError, Refusal) as error:
        replayed.problem = error.detail if isinstance(error, SynclineError) else str(error)
        return replayed
    former = former_rule(newest.rule)
    replayed.differences = [
        Difference(entry["path"], entry.get("base", ABSENT), entry.get("result", ABSENT))
        for entry in found
        if former is None or _changed(former, rule, entry["path"])
    ]
    return replayed


def _replay(rule: Rule, history: Sequence[Revision], former_rule: FormerRule) -> State:
    """The state after all revisions, each merged anew as far as what it came from is kept."""

    def decoded(revision: Revision) -> State:
        document = revision.document
        if document.deleted:
            return rule.bottom
        made_by, at_ms = document.rule, document.updated_at_ms
        return decode_state(rule, former_rule, document.stored, made_by, at_ms)

    by_version = {revision.document.version: revision for revision in history}
    state = decoded(history[0])
    for before, revision in pairwise(history):
        document = revision.document
        if document.epoch != before.document.epoch or document.deleted:
            state = decoded(revision)
            continue
        if revision.outcome == "merged" and (document.device or "").startswith(IMPORTS):
            # It brought a state with dates of its own.
            brought, made_by = revision.proposed.stored, document.rule
            at_ms = document.updated_at_ms
            state = rule.join(state, decode_state(rule, former_rule, brought, made_by, at_ms))
            continue
        merged = revision.outcome == "merged"
        seen = by_version.get(document.base or 0) if merged else before
        wanted = revision.proposed.copy or revision.proposed.stored if merged else document.stored
        value = _value(wanted.value)
        if value is ABSENT:
            continue
        rule.check(value)
        stamp = (document.updated_at_ms, 0, document.device or "unknown")
        delta = rule.delta(rule.bottom if seen is None else decoded(seen), value, stamp)
        state = rule.join(state, delta)
    return state


def _changed(former: Rule, rule: Rule, path: str) -> bool:
    """Whether the rule at a path is another: where it is not, the replay has nothing to say.

    It knows values only, and so misses that a field was taken away.
    """
    old: Rule | None = former
    new: Rule | None = rule
    for token in parse_pointer(path):
        if old is None or new is None or old.fingerprint == new.fingerprint:
            break
        old, new = old.child(token), new.child(token)
    return old is None or new is None or old.fingerprint != new.fingerprint


def _value(data: bytes | None) -> Any:
    return ABSENT if data is None else decode_json(data)
