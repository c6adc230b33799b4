"""The server as the design describes it, in memory: what the real one is compared with.

Written from the design and not from the service. It shares `merge_rules` and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from types import ModuleType

from merge_rules.canonical import encode
from merge_rules.documents import shipped_registry
from merge_rules.refusal import parse_pointer
from merge_rules.registry import Registry
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.stamp import Stamp, edit_stamp
from tests.simulation import changed_rules, first_rules
from tests.simulation.held import Account, Document, Own, size_beside
from tests.simulation.ledger import OWN_RULES, Ledger, with_session, with_totals
from tests.simulation.server import (
    SERVER_OWNED,
    UNAVAILABLE,
    Crash,
    Documents,
    Folded,
    Json,
    Reply,
    writes,
)


@dataclass(slots=True)
class Transaction:
    """What a request has read and decided, until it is committed."""

    request: Json
    account: Account
    results: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    """Results of the events."""
    refusal: Reply | None = None


class Rejected(Exception):
    """One mutation is rejected; nothing behind it is."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Model:
    """All accounts, one era. Bugs to plant override the methods marked with *."""

    locks = True
    """* Whether a request that writes waits for another one that does."""
    ledger = Ledger
    """* What keeps the events of an account."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.registry = _registry(first_rules)
        self.accounts: dict[str, Account] = {}
        self.era = 0
        self.backup: dict[str, Account] = {}

    # --- the port ----------------------------------------------------------------------------

    def sync(self, account: str, request: Json, crash: Crash | None = None) -> Reply:
        refusal = self._check_cursor(account, request)
        if refusal is not None:
            return refusal
        if not writes(request):
            return self._pull(account, request)
        transaction = self._begin(account, request)
        if crash == "before":
            return self._crash_before_commit(account, transaction)
        if crash != "retried before":
            self._commit(account, transaction)
        if crash == "after":
            return UNAVAILABLE
        if crash is not None:
            transaction = self._begin(account, request)
            self._commit(account, transaction)
        return self._finish(account, transaction)

    def overlap(self, account: str, first: Json, second: Json) -> tuple[Reply, Reply]:
        refusal = self._check_cursor(account, first)
        if refusal is not None or not writes(first):
            return refusal or self._pull(account, first), self.sync(account, second)
        transaction = self._begin(account, first)
        if self.locks and writes(second):
            self._commit(account, transaction)
            answer = self._finish(account, transaction)
            return answer, self.sync(account, second)
        other = self.sync(account, second)
        self._commit(account, transaction)
        return self._finish(account, transaction), other

    def documents(self, account: str) -> Documents:
        found = self._account(account).documents
        return {key: (one.version, one.value()) for key, one in found.items()}

    def accepted(self, account: str) -> frozenset[str]:
        return frozenset(self._account(account).accepted)

    def recorded(self, account: str) -> frozenset[str]:
        return frozenset(self._account(account).ledger.recorded)

    def audit(self, account: str) -> list[str]:
        return self._account(account).ledger.audit()

    def fold(self, before_ms: int) -> None:
        for account in self.accounts.values():
            alive = {device for device, at in account.wrote.items() if at >= before_ms}
            for document in account.documents.values():
                self._fold(document, before_ms, alive)

    def _fold(self, document: Document, before_ms: int, alive: set[str]) -> None:
        rule, state = document.rule, document.state
        folded = rule.fold(state, before_ms, alive)
        beside = size_beside(rule, folded)
        if document.deleted or beside >= document.beside:
            return  # There is nothing to win, and bases would be refused for it.
        document.state, document.beside, document.folded = folded, beside, document.version
        document.kept = {document.version: folded}

    def folded(self) -> Folded:
        return {
            (name, key): document.folded
            for name, account in self.accounts.items()
            for key, document in account.documents.items()
            if document.folded
        }

    def change_rules(self) -> None:
        self.registry = _registry(changed_rules)
        self._adopt_all()

    def _adopt_all(self) -> None:
        """Every state becomes one of the present rule of its document."""
        for account in self.accounts.values():
            for key, document in account.documents.items():
                rule = self.registry.rule_for(key)
                if rule.fingerprint != document.rule.fingerprint:
                    document.adopt(rule)

    def back_up(self) -> None:
        self.backup = {name: account.fork() for name, account in self.accounts.items()}

    def restore(self) -> None:
        self.accounts = {name: account.fork() for name, account in self.backup.items()}
        self.era += 1
        self._adopt_all()

    # --- one request -------------------------------------------------------------------------

    def _account(self, name: str) -> Account:
        return self.accounts.setdefault(name, Account(ledger=self.ledger()))

    def _read(self, name: str, request: Json) -> Account:
        """* What a request decides on."""
        written = {body["key"] for body in request["mutations"]}
        return self._account(name).fork(written.union(SERVER_OWNED))

    def _check_cursor(self, name: str, request: Json) -> Reply | None:
        cursor = request.get("cursor")
        if cursor is None:
            return None
        era, _, seq = cursor.partition(".")
        if int(era) == self.era and int(seq) <= self._account(name).seq:
            return None
        return Reply(410, {"code": "cursor-expired"})

    def _begin(self, name: str, request: Json) -> Transaction:
        """Reads and decides; nothing is there for others until `_commit`."""
        transaction = Transaction(request, self._read(name, request))
        account = transaction.account
        if not request.get("alone") and self.forked(account, request):
            transaction.refusal = Reply(409, {"code": "device-forked"})
            return transaction
        behind = not request.get("alone") and self._is_behind(account, request)
        for body in request["mutations"]:
            transaction.results.append(self._mutate(account, request, body, behind=behind))
        transaction.events = self._record(account, request)
        return transaction

    def _commit(self, name: str, transaction: Transaction) -> None:
        self.accounts[name] = transaction.account

    def _crash_before_commit(self, name: str, transaction: Transaction) -> Reply:
        """* Nothing was committed, so nothing was acknowledged."""
        return UNAVAILABLE

    def _finish(self, name: str, transaction: Transaction) -> Reply:
        if transaction.refusal is not None:
            return transaction.refusal
        if transaction.request.get("alone"):
            bodies, told = transaction.request["mutations"], transaction.results
            values = [
                {"value": body.get("value")} | one for body, one in zip(bodies, told, strict=True)
            ]
            return Reply(200, {"results": values, "events": transaction.events})
        return self._pull(name, transaction.request, transaction.results, transaction.events)

    def _pull(
        self, name: str, request: Json, results: Sequence[Json] = (), events: Sequence[Json] = ()
    ) -> Reply:
        account = self._account(name)
        after = int((request["cursor"] or "0.0").partition(".")[2])
        changed = sorted(
            ((one.seq, key, one) for key, one in account.documents.items() if one.seq > after),
            key=lambda row: row[0],
        )
        sent = changed[: request["limit"]]
        more = len(sent) < len(changed)
        told = {(one["key"], one["version"]) for one in results if "version" in one}
        changes = [
            {"key": key, "version": one.version, "value": one.plain(), "deleted": one.deleted}
            for _, key, one in sent
            if (key, one.version) not in told
        ]
        cursor = f"{self.era}.{sent[-1][0] if more else account.seq}"
        answer = {"cursor": cursor, "results": results, "changes": changes, "more": more}
        return Reply(200, answer | ({"events": events} if request.get("events") else {}))

    # --- events ------------------------------------------------------------------------------

    def _record(self, account: Account, request: Json) -> list[Json]:
        """A result for each event; what they add up to is a version of documents of its own."""
        events = request.get("events", [])
        results, sessions = account.ledger.record(events, request["sent_at"], self.clock())
        if any(one["outcome"] == "accepted" for one in results):
            self._show_totals(account, request)
        if sessions:
            self._project(account, "profile", lambda state: reduce(with_session, sessions, state))
        return results

    def _show_totals(self, account: Account, request: Json) -> None:
        """* In the same commit as the events."""
        self._project(account, "totals", lambda state: with_totals(state, account.ledger.totals))

    def _project(self, account: Account, key: str, change: Callable[[State], State]) -> None:
        """A new version of a document that nobody else writes."""
        document = account.documents.setdefault(key, self._new_document(key))
        document.state, document.deleted = change(document.state), False
        document.beside = size_beside(document.rule, document.state)
        document.version += 1
        account.seq += 1
        document.seq = account.seq

    # --- who is it, and what is known --------------------------------------------------------

    def forked(self, account: Account, request: Json) -> bool:
        """* Whether a store sends something new that does not know all that its device sent."""
        sent = {body["id"] for body in request["mutations"]}
        return self._is_behind(account, request) and not account.seen.issuperset(sent)

    def _is_behind(self, account: Account, request: Json) -> bool:
        """Whether a store does not know all that its device sent, and so is a copy."""
        accepted = account.sent.get(request["device"], [])
        previous, sent = request["previous"], {body["id"] for body in request["mutations"]}
        if previous in accepted:
            accepted = accepted[accepted.index(previous) + 1 :]
        return not sent.issuperset(accepted)

    def _remember(self, account: Account, identifier: str) -> None:
        """* Every id of an accepted mutation, for good."""
        account.seen.add(identifier)

    # --- one mutation ------------------------------------------------------------------------

    def _mutate(self, account: Account, request: Json, body: Json, *, behind: bool) -> Json:
        document = account.documents.get(body["key"])
        if document is not None and body["id"] in account.seen:
            if not behind:
                # One that is behind may have another id by now: who kept this one saw nothing.
                self._inherit(document, request["device"], body["id"])
            return _result(body, "duplicate", document)
        if body["key"] in SERVER_OWNED:
            return _rejected(body, "server-owned")
        document = document or self._new_document(body["key"])
        device: str = request["device"]
        stamp = edit_stamp(body.get("edited_at"), request["sent_at"], self.clock(), device)
        before, version = document.value(), document.version
        try:
            outcome = self._decide(document, device, body, stamp)
        except Rejected as rejected:
            return _rejected(body, rejected.code)
        account.documents[body["key"]] = document
        if document.version > version:
            account.seq += 1
            document.seq = account.seq
        account.wrote[device] = self.clock()
        account.accepted.add(body["id"])
        account.sent.setdefault(device, []).append(body["id"])
        self._remember(account, body["id"])
        return self._reply(body, outcome, document, before)

    def _new_document(self, key: str) -> Document:
        rule = self.registry.rule_for(key)
        return Document(rule, state=rule.bottom)

    def _inherit(self, document: Document, device: str, identifier: str) -> None:
        """What a copied store sent under its old device id is its own under the new one too."""
        for other, owns in list(document.owns.items()):
            if other != device and identifier in owns:
                own = owns[identifier]
                # A copy that was made up for the other device is not what this one had.
                own = replace(own, base=None) if own.made_up else own
                document.owns.setdefault(device, {}).setdefault(identifier, own)

    def _reply(self, body: Json, outcome: str, document: Document, before: bytes) -> Json:
        """* The document as it is after the write."""
        return _result(body, outcome, document)

    def _decide(self, document: Document, device: str, body: Json, stamp: Stamp) -> str:
        match body["op"]:
            case "put":
                return self._put(document, device, body, stamp)
            case "patch":
                return self._patch(document, device, body, stamp)
            case _:
                return self._delete(document, device, body)

    def _put(self, document: Document, device: str, body: Json, stamp: Stamp) -> str:
        rule, value, base = document.rule, body["value"], self._base_of(document, device, body)
        if document.version == 0:
            return self._advance(document, device, body, stamp)
        if base is not None and base < document.epoch_version:
            return "superseded"
        since = 0 if base is None or base > document.version else base
        unknown = since != base
        if base == document.version or (document.deleted and unknown):
            return self._advance(document, device, body, stamp)
        seen = ABSENT if unknown else self._seen(document, device, since)
        made_up = seen is ABSENT
        if made_up:
            seen = self._made_up(document, device, body, base)
        delta = rule.delta(seen, value, stamp)
        copy = proposed = rule.join(seen, delta)
        if made_up:
            proposed = rule.join(self._own(document, device, since), delta)
        joined, version = self._join(rule, document.state, copy, delta), document.version
        proposed = self._proposed(proposed, joined)
        self._store(document, device, body["id"], joined, Own(0, base, proposed, copy, made_up))
        return "merged" if document.version > version else "unchanged"

    def _advance(self, document: Document, device: str, body: Json, stamp: Stamp) -> str:
        """The base was current, or nothing is there."""
        version = document.version
        state = document.rule.advance(document.state, body["value"], stamp)
        if state == document.state and not document.deleted and version:
            document.beside = size_beside(document.rule, state)
            return "unchanged"
        self._store(document, device, body["id"], state, Own(0, body["base"], state, state))
        return "applied" if document.version > version else "unchanged"

    def _patch(self, document: Document, device: str, body: Json, stamp: Stamp) -> str:
        rule, base, seen = document.rule, self._base_of(document, device, body), ABSENT
        if base is not None and base < document.epoch_version:
            return "superseded"
        operations = _operations(body)
        state, delta = document.state, rule.bottom
        for operation in operations:
            change = rule.operate(state, operation, operation.path, stamp)
            state, delta = rule.apply(state, change), rule.apply(delta, change)
        if base is not None and base <= document.version:
            seen = self._seen(document, device, base)
        known = seen is not ABSENT
        if known:
            # The device made them on its copy, where they may have had another result.
            for operation in operations:
                seen = rule.apply(seen, rule.operate(seen, operation, operation.path, stamp))
        else:
            seen = self._own(document, device, base or 0)
        own, version = rule.join(seen, delta), document.version
        # Where the base is not known the own view is not all that the device held on it.
        kept = known and (base == 0 or base in document.kept)
        self._store(document, device, body["id"], state, Own(0, base if kept else None, own, own))
        return "applied" if document.version > version else "unchanged"

    def _delete(self, document: Document, device: str, body: Json) -> str:
        base = self._base_of(document, device, body)
        if document.version == 0:
            raise Rejected("document-not-found")
        if document.deleted or (base is not None and base < document.epoch_version):
            return "unchanged"
        outcome = "merged" if base is not None and base < document.version else "applied"
        document.version += 1
        document.epoch_version = document.version
        document.began = (device, base)
        document.deleted, document.state = True, document.rule.bottom
        document.keep()
        return outcome

    # --- what a device had seen --------------------------------------------------------------

    def _base_of(self, document: Document, device: str, body: Json) -> int | None:
        """The base named; a device that deleted the document itself has seen it deleted."""
        base: int | None = body.get("base")
        if base is None or base >= document.epoch_version:
            return base
        began_by, began_on = document.began
        return document.epoch_version if began_by == device and base >= (began_on or 0) else base

    def _seen(self, document: Document, device: str, base: int) -> State:
        """* base' = state(base) ⊔ own; ABSENT if neither that nor what was made on it is kept."""
        state = self._base(document, base)
        # Base 0 has no version that folding could forget, but what was written on it has.
        if base == 0 and document.folded and self._owns(document, device, base):
            state = ABSENT
        if state is not ABSENT:
            return document.rule.join(state, self._own(document, device, base))
        own = self._own_on(document, device, base)
        if own is None or own.made_up or own.version <= document.folded:
            return ABSENT
        return own.proposed

    def _base(self, document: Document, base: int) -> State:
        """* The document at an earlier version, ABSENT if that is not kept any more."""
        return document.rule.bottom if base == 0 else document.kept.get(base, ABSENT)

    def _own(self, document: Document, device: str, base: int) -> State:
        """* What the device's last writes proposed, as far as they came after the base."""
        state = document.rule.bottom
        for own in self._owns(document, device, max(base, document.folded)):
            state = document.rule.join(state, own.proposed)
        return state

    def _owns(self, document: Document, device: str, base: int) -> list[Own]:
        """Oldest first."""
        since = max(base, document.epoch_version)
        owns = document.owns.get(device, {}).values()
        return sorted((one for one in owns if one.version > since), key=lambda one: one.version)

    def _own_on(self, document: Document, device: str, base: int | None) -> Own | None:
        """The device's last write, if it was made on this very base."""
        owns = [] if base is None else self._owns(document, device, base)
        return owns[-1] if owns and owns[-1].base == base else None

    def _made_up(self, document: Document, device: str, body: Json, base: int | None) -> State:
        """What the device had seen, from its plain value, where the base is not kept."""
        rule, own = document.rule, self._own_on(document, device, base)
        if own is not None and own.version > document.folded:
            return own.copy
        if own is not None:
            # Only its value is still good: counts of the device may be anybody's by now.
            return rule.reconstruct(rule.value(own.copy), document.state, device)
        if "base_value" in body:
            return rule.reconstruct(body["base_value"], document.state, device)
        if rule.needs_base:
            raise Rejected("base-unknown")
        unknown = base is None or base > document.version
        return self._own(document, device, 0 if unknown or base is None else base)

    # --- what is written ---------------------------------------------------------------------

    def _join(self, rule: Rule, state: State, copy: State, delta: State) -> State:
        """* current ⊔ what the device changed."""
        return rule.join(state, delta)

    def _proposed(self, proposed: State, joined: State) -> State:
        """* The own view: what the device proposed, not what became of it."""
        return proposed

    def _store(
        self, document: Document, device: str, mutation: str, state: State, own: Own
    ) -> None:
        """A new version where the value is a new one; the state grows in any case."""
        changed = document.deleted or not document.shows(state)
        document.version += changed
        document.deleted, document.state = False, state
        document.beside = size_beside(document.rule, state)
        document.owns.setdefault(device, {})[mutation] = replace(own, version=document.version)
        document.keep()


def _registry(rules: ModuleType) -> Registry:
    """What ships, what a deployment adds, and the rules of the server's own documents."""
    registry = shipped_registry()
    rules.register(registry)
    for key, rule in OWN_RULES.items():
        registry.register(key, rule)
    return registry


def _result(body: Json, outcome: str, document: Document) -> Json:
    result = {
        "id": body["id"],
        "outcome": outcome,
        "key": body["key"],
        "version": document.version,
        "deleted": document.deleted,
    }
    value = document.value()
    if body["op"] != "put" or document.deleted or value != encode(body["value"]):
        result["value"] = document.plain()
    return result


def _rejected(body: Json, code: str) -> Json:
    problem = {"code": code}
    return {"id": body["id"], "outcome": "rejected", "key": body["key"], "problem": problem}


def _operations(body: Json) -> list[Operation]:
    short = [Operation("increment", (name,), by) for name, by in body.get("delta", {}).items()]
    short += [Operation("set", (name,), value) for name, value in body.get("set", {}).items()]
    return short + [
        Operation(one["op"], parse_pointer(one["path"]), one.get("value", ABSENT))
        for one in body.get("operations", [])
    ]
