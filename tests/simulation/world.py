"""Devices, accounts, a server and the network between them, and the books that are kept."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal
from uuid import UUID

from tests.simulation.device import Pending, PendingEvent, Store
from tests.simulation.happenings import GOOD, Happening
from tests.simulation.network import Fault, Network
from tests.simulation.oracle import Book, Edit, Path
from tests.simulation.server import Folded, Json, Reply, Server, canonical, writes

ACCOUNTS = ("home", "away")
FOLD_AFTER_MS = 180 * 86_400_000
MOST_DEVICES = 5
ROUNDS = 12
"""Syncs that a device needs at most to be done, once the network is good."""

SEEDS: dict[str, Json] = {
    key: {"made": 1}
    for key in ("user_stats", "game_stats", "lesson_progress", "settings", "lesson:1")
}


class SimulatedClock:
    """The true time, in ms since 1970. It stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1_764_000_000_000

    def __call__(self) -> int:
        return self.now


@dataclass
class Device:
    """Somebody's hardware: a clock of its own, and the local stores of the accounts it knows."""

    name: str
    store: Store
    skew_ms: int = 0
    closed: dict[str, Store] = field(default_factory=dict)
    """Stores of accounts that it is not signed in to at the moment."""

    def stores(self) -> list[Store]:
        return [self.store, *self.closed.values()]


@dataclass
class World:
    """All there is in one run of the machine."""

    server: Server
    clock: SimulatedClock
    coverage: Counter[str]
    devices: list[Device] = field(default_factory=list)
    books: dict[str, Book] = field(default_factory=lambda: {name: Book() for name in ACCOUNTS})
    seeded: bool = False
    """Whether every document exists in every account from the beginning."""
    kept: Device | None = None
    """A backup of a device's local store, not opened yet."""
    restores: int = 0
    rules_changed: bool = False
    backup_versions: dict[str, dict[str, dict[str, int]]] | None = None

    def __post_init__(self) -> None:
        self.network = Network(self.server, self.clock, self.books, self.coverage)
        self.ids = count(1)
        self.stores = count(1)

    def begin(self, skews: list[int], *, seeded: bool) -> None:
        for number, skew in enumerate(skews):
            store = Store(self.new_store(), "home")
            self.devices.append(Device(f"d{number}", store, skew))
        if seeded:
            for account in ACCOUNTS:
                self._seed(account)
        self.seeded = seeded

    def _seed(self, account: str) -> None:
        """Somebody made every document before, so that all devices know it once they pull."""
        seed = Device("seed", Store(self.new_store(), account))
        for key, value in SEEDS.items():
            seed.store.put(key, value, self.stamp(seed))
        for key in ("note", "draft"):
            self.write(seed, (key,), {"text": "first"})
        self.sync(seed)

    def new_store(self) -> str:
        return f"s{next(self.stores)}"

    def stamp(self, device: Device) -> Json:
        identifier = str(UUID(int=next(self.ids), version=4))
        return {"id": identifier, "edited_at": self.clock() + device.skew_ms}

    # --- edits -------------------------------------------------------------------------------

    def record(
        self,
        device: Device,
        kind: Literal["count", "reach", "item", "flag", "write"],
        path: Path,
        value: Any,
    ) -> Json:
        """Enters an edit that is about to be made; what its mutation needs besides content."""
        stamp, store = self.stamp(device), device.store
        book, key = self.books[store.account], path[0]
        base, _ = store.view(key)
        seen = frozenset(_chain(store.waiting(key), book))
        if store.era == self.restores:
            seen |= book.seen_at(key, base)
        book.edits[stamp["id"]] = Edit(stamp["id"], kind, path, value, seen)
        return stamp

    def write(self, device: Device, path: Path, value: Any) -> None:
        """Gives a whole document a value."""
        device.store.put(path[0], value, self.record(device, "write", path, value))

    def happen(self, device: Device, what: Happening, ago_ms: int) -> None:
        """Something happened, a while ago by the clock of the device that records it."""
        identifier = str(UUID(int=next(self.ids), version=4))
        true_ms = self.network.true_times[identifier] = self.clock() - ago_ms
        body = {"id": identifier, "occurred_at": true_ms + device.skew_ms, **what._asdict()}
        device.store.events.append(PendingEvent(body))
        if what in GOOD:
            self.books[device.store.account].events.events[identifier] = body

    def reuse_an_id(self, device: Device, what: Happening) -> None:
        """An app that is wrong gives what the server must refuse the id of an earlier event."""
        earlier = self.books[device.store.account].events.events
        if earlier:
            body = {**earlier[max(earlier)], **what._asdict()}
            device.store.events.append(PendingEvent(body))

    # --- the network -------------------------------------------------------------------------

    def sync(
        self, device: Device, fault: Fault = "none", limit: int = 500, take: int = 500
    ) -> None:
        """One round trip; where the server says how to go on, the device does at once."""
        store = device.store
        for _ in range(3):
            request = store.request(self.clock() + device.skew_ms, limit, take)
            reply = self.network.send(store.account, request, fault)
            if reply is None:
                return
            self.receive(store, request, reply)
            if reply.status == 200:
                return
            fault = "none"

    def write_alone(self, device: Device, fault: Fault) -> bool:
        """Sends the first edit that waits by itself, if that is safe; whether it was.

        Such a write names no cursor and no last mutation, so that nobody finds out that the store
        is a copy, or that the server was restored: that takes a sync, and one before it.
        """
        store = device.store
        up_to_date = store.era == self.restores and store.cursor is not None
        if not store.outbox or store.copied or not up_to_date:
            return False
        self._send_alone(store, store.request_alone(self.clock() + device.skew_ms), fault)
        return True

    def record_alone(self, device: Device, fault: Fault) -> None:
        """Sends the events that wait by themselves: whose store it is matters to none of them."""
        store = device.store
        self._send_alone(store, store.request_events_alone(self.clock() + device.skew_ms), fault)

    def _send_alone(self, store: Store, request: Json, fault: Fault) -> None:
        reply = self.network.send(store.account, request, fault)
        if reply is not None:
            self.receive(store, request, reply)

    def receive(self, store: Store, request: Json, reply: Reply, *, latest: bool = True) -> None:
        complete = store.receive(request, reply, self.new_store)
        if reply.status == 410:
            store.era = self.restores
        if complete and latest:
            self.check_copies(store)

    def check_copies(self, store: Store) -> None:
        """Cursors skip nothing: who has pulled to the end holds what the server holds."""
        held = {key: (one.version, canonical(one.value)) for key, one in store.copies.items()}
        documents = self.server.documents(store.account)
        assert held == documents, (
            f"{store.device} has pulled all, and holds {held}, not {documents}"
        )

    def sync_two(self, one: Device, other: Device) -> None:
        """The second request arrives while the first stands between its read and its commit."""
        first, second = (
            device.store.request(self.clock() + device.skew_ms, 500, 500) for device in (one, other)
        )
        replies = self.network.send_two(one.store.account, first, second)
        self.receive(one.store, first, replies[0], latest=False)
        self.receive(other.store, second, replies[1], latest=writes(second))

    # --- stores and accounts -----------------------------------------------------------------

    def copy_store(self, device: Device) -> Device:
        """A copy of a device's local store, device id and all."""
        return Device(f"copy of {device.name}", device.store.duplicate(), device.skew_ms)

    def open_copy(self, copied: Device) -> None:
        self.devices.append(Device(f"d{len(self.devices)}", copied.store, copied.skew_ms))

    def relink(self, device: Device) -> None:
        """The device signs in to the other account. The store of this one is closed and kept.

        Edits that were never sent go along, as changes to whatever is there, unless others wait
        there already. Those in doubt stay with the account that may have them, and so do those
        that a copy of the store holds too: which account they go to would be a race.
        """
        old = device.store
        (account,) = (name for name in ACCOUNTS if name != old.account)
        new = device.closed.pop(account, None) or Store(
            self.new_store(), account, era=self.restores
        )
        self._move_events(old, new)
        elsewhere = self.server.accepted(old.account).union(
            *(
                {one.body["id"] for one in store.outbox}
                for store in self.all_stores()
                if store is not old
            )
        )
        moved = [one for one in old.outbox if not one.sent and one.body["id"] not in elsewhere]
        if not new.outbox and len(moved) == len(old.outbox):
            old.outbox = []
            # What goes along knows nothing of what this store wrote here before.
            new.take_a_new_identity(self.new_store())
            self._move(moved, old, new)
        device.closed[old.account], device.store = old, new

    def _move(self, moved: list[Pending], old: Store, new: Store) -> None:
        here, there = self.books[old.account], self.books[new.account]
        for pending in moved:
            pending.forget_base()
            edit = here.edits.pop(pending.body["id"], None)
            if edit is not None:
                edit.seen = frozenset(_chain(new.waiting(edit.path[0]), there))
                there.edits[edit.id] = edit
                self.coverage["moved edit"] += 1
            new.outbox.append(pending)

    def _move_events(self, old: Store, new: Store) -> None:
        """What happened goes along, unless it may have been counted, or a copy holds it too."""
        copies = [store for store in self.all_stores() if store is not old]
        elsewhere = [one for store in copies for one in store.events]
        here, there = self.books[old.account].events, self.books[new.account].events
        for pending in list(old.events):
            body = pending.body
            if not pending.sent and pending not in elsewhere and here.holds(body):
                old.events.remove(pending)
                new.events.append(pending)
                there.events[body["id"]] = here.events.pop(body["id"])
                self.coverage["moved event"] += 1

    def all_stores(self) -> list[Store]:
        devices = [*self.devices, *([self.kept] if self.kept else [])]
        return [store for device in devices for store in device.stores()]

    # --- housekeeping ------------------------------------------------------------------------

    def fold(self, elapsed_ms: int) -> None:
        """Time passes, and the server folds what only edits and devices of long ago could need."""
        self.clock.now += elapsed_ms
        self.server.fold(self.clock() - FOLD_AFTER_MS)
        folded = self.server.folded()
        for (account, key), version in folded.items():
            self.coverage["folded document"] += version > self.books[account].folded.get(key, 0)
        self._enter_folded(folded)

    def _enter_folded(self, folded: Folded) -> None:
        for name, book in self.books.items():
            book.folded = {key: at for (account, key), at in folded.items() if account == name}

    def change_rules(self) -> None:
        self.rules_changed = True
        self.server.change_rules()
        for name, book in self.books.items():
            held = self.server.documents(name)
            book.changed = {key: version for key, (version, _) in held.items()}

    # --- backups of the server ---------------------------------------------------------------

    def back_up(self) -> None:
        self.server.back_up()
        self.backup_versions = {
            name: {key: dict(versions) for key, versions in book.versions.items()}
            for name, book in self.books.items()
        }

    def restore(self) -> None:
        """The server goes back in time. What it had acknowledged since is lost."""
        assert self.backup_versions is not None
        self.server.restore()
        self.restores += 1
        self._enter_folded(self.server.folded())
        for name, book in self.books.items():
            book.versions = {key: dict(v) for key, v in self.backup_versions[name].items()}
            stores = [store for store in self.all_stores() if store.account == name]
            waiting = {one.body["id"] for store in stores for one in store.outbox}
            book.lost |= book.edits.keys() - self.server.accepted(name) - waiting
            held = [one.body for store in stores for one in store.events]
            lost = book.events.restored(self.server.recorded(name), held)
            self.coverage["event lost in a restore"] += lost
            for store in stores:
                if store.cursor is None:
                    store.era = self.restores
            for identifier, before in _order(stores).items():
                if identifier in book.edits:
                    book.edits[identifier].seen = before & book.edits.keys()

    # --- the end -----------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything arrives, everybody pulls, and the books are checked."""
        if self.kept is not None:
            self.open_copy(self.kept)
            self.kept = None
        while self.network.under_way:
            self.network.arrive(0)
        for device in self.devices:
            for store in list(device.closed.values()):
                self._settle(Device(device.name, store, device.skew_ms))
            self._settle(device)
        for name, book in self.books.items():
            for store in self.all_stores():
                if store.account == name:
                    # Whoever came first has not seen what came after.
                    self._settle(Device("again", store))
                    self.check_copies(store)
            fresh = Device("fresh", Store(self.new_store(), name))
            self.sync(fresh)
            values = {key: one.value for key, one in fresh.store.copies.items()}
            book.check(values, self.server.accepted(name))
            self._send_everything_again(fresh.store)
            book.events.check(values, self.server.recorded(name))
            wrong = self.server.audit(name)
            assert not wrong, f"the audit says: {wrong}"
        self.coverage["runs"] += 1

    def _settle(self, device: Device) -> None:
        for _ in range(ROUNDS):
            self.sync(device)
            store = device.store
            if not store.outbox and not store.events and store.resync is None:
                return
        raise AssertionError(f"{store.device} cannot get rid of {store.outbox}, {store.events}")

    def _send_everything_again(self, store: Store) -> None:
        """Exactly once: what was acknowledged is known, and changes nothing any more."""
        accepted = self.server.accepted(store.account)
        known = self.network.bodies.get(store.account, {})
        happened = self.books[store.account].events.events
        again = {
            "mutations": [body for one, body in known.items() if one in accepted],
            "events": [happened[one] for one in sorted(self.server.recorded(store.account))],
        }
        if not writes(again):
            return
        request = store.request(self.clock(), 500, 0) | again
        reply = self.network.send(store.account, request, "none")
        assert reply is not None
        results = [*reply.body["results"], *reply.body.get("events", [])]
        outcomes = {result["outcome"] for result in results}
        assert outcomes == {"duplicate"}, f"sent again: {outcomes}"
        assert reply.body["changes"] == [], "nothing was new, and something changed"


def _order(stores: list[Store]) -> dict[str, frozenset[str]]:
    """By mutation that waits, those that it was made on, in every store that holds it.

    A store and its copy may bring the same edits in another order: one of them knows that the
    first of two was accepted, and the server that does not know it any more gets the second.
    """
    order: dict[str, frozenset[str]] = {}
    for store in stores:
        for pending in store.outbox:
            identifier, waiting = pending.body["id"], store.waiting(pending.body["key"])
            before = frozenset(one.body["id"] for one in waiting[: waiting.index(pending)])
            order[identifier] = order.get(identifier, before) & before
    return order


def _chain(waiting: list[Pending], book: Book) -> set[str]:
    """The edits that wait for the server, with what they had seen themselves."""
    chain: set[str] = set()
    for pending in waiting:
        edit = book.edits.get(pending.body["id"])
        if edit is not None:
            chain |= edit.seen | {edit.id}
    return chain
