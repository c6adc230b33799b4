"""Fifteen bugs to plant in the model server: each is one that a real server could have.

They exist to find out whether the machine finds them. Nothing outside of the tests knows them.
"""

from merge_rules.canonical import decode
from merge_rules.rule import Rule, State
from tests.simulation.held import Account, Document
from tests.simulation.ledger import Ledger, Recorded, effects_of
from tests.simulation.model import Model, Transaction
from tests.simulation.server import Json, Reply


class BaseIgnored(Model):
    """Every write counts as one on the current version."""

    def _seen(self, document: Document, device: str, base: int) -> State:
        return document.state


class OverwriteInsteadOfJoin(Model):
    """The device's copy replaces the document."""

    def _join(self, rule: Rule, state: State, copy: State, delta: State) -> State:
        return copy


class AcknowledgeWithoutCommit(Model):
    """The answer goes out before the commit, which then fails."""

    def _crash_before_commit(self, name: str, transaction: Transaction) -> Reply:
        committed = self.accounts[name]
        self.accounts[name] = transaction.account
        try:
            return self._finish(name, transaction)
        finally:
            self.accounts[name] = committed


class NoOwnView(Model):
    """A second write on one base is compared with the base alone."""

    def _own(self, document: Document, device: str, base: int) -> State:
        return document.rule.bottom


class OwnViewIsMergedState(Model):
    """What became of a write is taken for what the device knows."""

    def _proposed(self, proposed: State, joined: State) -> State:
        return joined


class DedupeKeepsLastId(Model):
    """Only the last accepted id of an account is known."""

    def _remember(self, account: Account, identifier: str) -> None:
        account.seen = {identifier}


class NoDedupe(Model):
    """No id is known."""

    def _remember(self, account: Account, identifier: str) -> None:
        pass


class NoLock(Model):
    """Two requests read the same state, and the second commit wins."""

    locks = False


class ReplyBeforeMerge(Model):
    """The answer names the new version and holds the document as it was before."""

    def _reply(self, body: Json, outcome: str, document: Document, before: bytes) -> Json:
        result = super()._reply(body, outcome, document, before)
        return result | {"value": decode(before)} if outcome == "merged" else result


class PrunedBaseIsBottom(Model):
    """A forgotten base is taken for a document that was never written."""

    def _base(self, document: Document, base: int) -> State:
        return document.kept.get(base, document.rule.bottom)


class TwoDevicesWithOneId(Model):
    """Copies of a store are not told from the store itself."""

    def forked(self, account: Account, request: Json) -> bool:
        return False


class _Forgetful(Ledger):
    def _known(self, identifier: str) -> Recorded | None:
        return None


class NoDedupeOfEvents(Model):
    """No event is known."""

    ledger = _Forgetful


class TotalsWithoutTag(Model):
    """Events that came while another request was committed are added to the totals before it."""

    before: dict[str, int] | None = None

    def overlap(self, account: str, first: Json, second: Json) -> tuple[Reply, Reply]:
        self.before = dict(self._account(account).ledger.totals)
        try:
            return super().overlap(account, first, second)
        finally:
            self.before = None

    def _read(self, name: str, request: Json) -> Account:
        account = super()._read(name, request)
        if self.before is not None and request.get("events"):
            account.ledger.totals = dict(self.before)
        return account


class _Generous(Ledger):
    def _refuse(self, event: Json) -> None:
        self._add(effects_of(event))


class RejectedEventsCount(Model):
    """What an event says is added to the totals although it is rejected."""

    ledger = _Generous


class TotalsInALaterCommit(Model):
    """Where a request also has edits, `totals` waits for the next commit that counts events."""

    def _show_totals(self, account: Account, request: Json) -> None:
        if not request["mutations"]:
            super()._show_totals(account, request)


BUGS: dict[str, type[Model]] = {
    "base ignored": BaseIgnored,
    "overwrite instead of join": OverwriteInsteadOfJoin,
    "acknowledge without commit": AcknowledgeWithoutCommit,
    "no own view": NoOwnView,
    "own view := merged state": OwnViewIsMergedState,
    "dedupe keeps only the last id": DedupeKeepsLastId,
    "no dedupe": NoDedupe,
    "no lock": NoLock,
    "reply with the state before the merge": ReplyBeforeMerge,
    "pruned base taken as bottom": PrunedBaseIsBottom,
    "two devices with one id": TwoDevicesWithOneId,
    "no dedupe of events": NoDedupeOfEvents,
    "totals counted without the tag": TotalsWithoutTag,
    "rejected events count": RejectedEventsCount,
    "totals in a later commit": TotalsInALaterCommit,
}
