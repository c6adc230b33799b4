"""The state machine: what people do on their devices, and what the world does to them."""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.simulation.happenings import BAD, GOOD, Happening
from tests.simulation.network import CRASHES, FAULTS, Fault
from tests.simulation.server import HISTORY, SERVER_OWNED, Server
from tests.simulation.world import MOST_DEVICES, Device, SimulatedClock, World

SECOND_MS = 1_000
DAY_MS = 86_400_000
MUCH = 500

COUNTERS = (("user_stats", "xp"), ("user_stats", "hearts"), ("game_stats", "games_played"))
MAXIMA = (("game_stats", "score"), ("user_stats", "level"), ("lesson_progress", "unlocked_count"))
MAPS = (("game_stats", "best_scores"), ("lesson_progress", "best_stars"))
TALLIED = ("n", "best", "tags", "title", "patch", "delete")
OPERATIONS = ("put", "patch", "delete")
REGISTERS = (("settings", "theme"), ("user_stats", "theme"), ("lesson:1", "title"))

whos = st.integers(0, MOST_DEVICES - 1)
amounts = st.sampled_from([1, -1, 3, -4, 8])
skews = st.sampled_from([0, 90 * SECOND_MS, -90 * SECOND_MS, 3 * DAY_MS, -9 * DAY_MS])
absences = st.sampled_from([100 * DAY_MS, 200 * DAY_MS])
"""After the longer one every device counts as gone, after the shorter one some may."""
busy_places = st.sampled_from([COUNTERS[0], REGISTERS[0]])
choices = st.integers(0, 3)
"""A few values, so that a choice can be undone; the last is unlike all others."""
happenings = st.sampled_from((*GOOD, *BAD))
long_ago = st.sampled_from([0, 3_600_000, DAY_MS, 2 * DAY_MS, 400 * DAY_MS])
"""How long ago something happened: most of it within a few days, or longer than may be told."""
faults = st.sampled_from(FAULTS)
faults_but_late = st.sampled_from([one for one in FAULTS if one != "late"])
"""For requests without a cursor: nothing tells them that a server was restored on their way."""


class Devices(RuleBasedStateMachine):
    """Edits offline, syncs through a hostile network; in the end all must agree.

    Each run begins with three devices. `make_server` and `coverage` are set by who runs it.
    """

    make_server: ClassVar[Callable[[], tuple[Server, SimulatedClock]]]
    coverage: ClassVar[Counter[str]]

    @initialize(skews=st.lists(skews, min_size=3, max_size=3), seeded=st.booleans())
    def begin(self, skews: list[int], seeded: bool) -> None:
        server, clock = type(self).make_server()
        self.world = World(server, clock, self.coverage)
        self.world.begin(skews, seeded=seeded)

    def teardown(self) -> None:
        """The last oracles; not after a failure, which they would hide."""
        if sys.exc_info()[0] is None and hasattr(self, "world"):
            self.world.settle()

    def device(self, who: int) -> Device:
        return self.world.devices[who % len(self.world.devices)]

    # --- edits -------------------------------------------------------------------------------

    def _object(self, who: int, key: str) -> tuple[Device, Any]:
        device = self.device(who)
        return device, device.store.view(key)[1] or {}

    def _count(self, who: int, place: tuple[str, str], amount: int) -> None:
        device, value = self._object(who, place[0])
        value[place[1]] = value.get(place[1], 0) + amount
        stamp = self.world.record(device, "count", place, amount)
        device.store.put(place[0], value, stamp)

    @rule(who=whos, place=st.sampled_from(COUNTERS), amount=amounts)
    def count(self, who: int, place: tuple[str, str], amount: int) -> None:
        self._count(who, place, amount)

    @rule(who=whos, amounts=st.lists(amounts, min_size=2, max_size=3))
    def count_on(self, who: int, amounts: list[int]) -> None:
        """Several edits on one base: what the own view is for."""
        for amount in amounts:
            self._count(who, COUNTERS[0], amount)

    @rule(who=whos, place=st.sampled_from(COUNTERS), amount=amounts, with_base=st.booleans())
    def count_by_patch(
        self, who: int, place: tuple[str, str], amount: int, with_base: bool
    ) -> None:
        device = self.device(who)
        if _waits_with_put(device, place[0]):
            return
        change = {"delta": {place[1]: amount}}
        stamp = self.world.record(device, "count", place, amount)
        device.store.patch(place[0], change | stamp, with_base=with_base)

    @rule(who=whos, place=st.sampled_from(MAXIMA), amount=st.integers(-3, 9))
    def reach(self, who: int, place: tuple[str, str], amount: int) -> None:
        device, value = self._object(who, place[0])
        held, value[place[1]] = value.get(place[1]), amount
        self._put_greater(device, place, value, held, amount)

    @rule(who=whos, place=st.sampled_from(MAPS), item=st.sampled_from("ab"), amount=choices)
    def best(self, who: int, place: tuple[str, str], item: str, amount: int) -> None:
        device, value = self._object(who, place[0])
        items = value.setdefault(place[1], {})
        held, items[item] = items.get(item), amount
        self._put_greater(device, (*place, item), value, held, amount)

    def _put_greater(
        self, device: Device, path: tuple[str, ...], value: Any, held: Any, amount: int
    ) -> None:
        """Only what is greater than the device knows is an edit; less is sent all the same."""
        if held is None or amount > held:
            device.store.put(path[0], value, self.world.record(device, "reach", path, amount))
        else:
            device.store.put(path[0], value, self.world.stamp(device))

    @rule(who=whos, lesson=choices)
    def complete(self, who: int, lesson: int) -> None:
        device, value = self._object(who, "lesson_progress")
        done = value.setdefault("completed", [])
        if lesson not in done:
            done.append(lesson)
            stamp = self.world.record(device, "item", ("lesson_progress", "completed"), lesson)
            device.store.put("lesson_progress", value, stamp)

    @rule(who=whos)
    def finish_the_lesson(self, who: int) -> None:
        device, value = self._object(who, "lesson:1")
        if not value.get("is_completed"):
            value["is_completed"] = True
            stamp = self.world.record(device, "flag", ("lesson:1", "is_completed"), True)
            device.store.put("lesson:1", value, stamp)

    def _choice(self, choice: int) -> str:
        return "abc"[choice] if choice < 3 else f"u{next(self.world.ids)}"

    def _choose(self, who: int, place: tuple[str, str], choice: int) -> None:
        device, value = self._object(who, place[0])
        chosen = self._choice(choice)
        if value.get(place[1]) != chosen:
            value[place[1]] = chosen
            device.store.put(place[0], value, self.world.record(device, "write", place, chosen))

    @rule(who=whos, place=st.sampled_from(REGISTERS), choice=choices)
    def choose(self, who: int, place: tuple[str, str], choice: int) -> None:
        self._choose(who, place, choice)

    @rule(who=whos, place=st.sampled_from(REGISTERS), first=choices)
    def choose_and_undo(self, who: int, place: tuple[str, str], first: int) -> None:
        """Dark, light, dark: on one base the second edit looks like none."""
        _, value = self._object(who, place[0])
        held = value.get(place[1])
        self._choose(who, place, first)
        if held in ("a", "b", "c"):
            self._choose(who, place, "abc".index(held))

    @rule(who=whos, choice=choices)
    def choose_by_patch(self, who: int, choice: int) -> None:
        device, place = self.device(who), REGISTERS[0]
        if _waits_with_put(device, place[0]):
            return
        chosen = self._choice(choice)
        stamp = self.world.record(device, "write", place, chosen)
        device.store.patch(place[0], {"set": {place[1]: chosen}} | stamp, with_base=False)

    @rule(who=whos, theme=st.sampled_from(["sea", "sun"]), choice=st.none() | choices)
    def ai_theme(self, who: int, theme: str, choice: int | None) -> None:
        """Adds or changes a theme, or takes it away."""
        device, value = self._object(who, "settings")
        themes, path = value.setdefault("ai_themes", {}), ("settings", "ai_themes", theme)
        chosen = None if choice is None else self._choice(choice)
        if themes.get(theme) == chosen:
            return
        themes[theme] = chosen
        value["ai_themes"] = {key: item for key, item in themes.items() if item is not None}
        device.store.put("settings", value, self.world.record(device, "write", path, chosen))

    @rule(who=whos, key=st.sampled_from(["note", "draft"]), choice=choices)
    def write(self, who: int, key: str, choice: int) -> None:
        """The whole document by last write wins."""
        device, value = self.device(who), {"text": self._choice(choice)}
        if device.store.view(key)[1] != value:
            self.world.write(device, (key,), value)

    @rule(who=whos)
    def delete(self, who: int) -> None:
        device = self.device(who)
        if device.store.view("draft")[1] is not None:
            device.store.delete("draft", self.world.record(device, "write", ("draft",), None))

    @rule(who=whos, what=st.sampled_from(TALLIED), choice=choices)
    def tally(self, who: int, what: str, choice: int) -> None:
        """Counts and sets that are deleted at times. No book is kept of it: what a sum must be
        depends on what each delete had seen. But all must agree, and the service with the model.
        """
        device, value = self._object(who, "tally")
        stamp = self.world.stamp(device)
        match what:
            case "delete":
                if device.store.view("tally")[1] is not None:
                    device.store.delete("tally", stamp)
                    self.world.coverage["delete under a rule that counts"] += 1
                return
            case "patch":
                if not _waits_with_put(device, "tally"):
                    device.store.patch("tally", {"delta": {"n": 1}} | stamp, with_base=True)
                return
            case "tags":
                value["tags"] = sorted({*value.get("tags", [])} ^ {choice})
            case _:
                value[what] = value.get(what, 0) + choice
        device.store.put("tally", value, stamp)

    # --- events ------------------------------------------------------------------------------

    @rule(who=whos, what=st.lists(happenings, min_size=1, max_size=3), ago=long_ago)
    def happen(self, who: int, what: list[Happening], ago: int) -> None:
        """Something happens, and is recorded. Events go along with the next sync."""
        for one in what:
            self.world.happen(self.device(who), one, ago)

    @rule(who=whos, what=st.sampled_from(BAD))
    def reuse_an_id(self, who: int, what: Happening) -> None:
        self.world.reuse_an_id(self.device(who), what)

    @rule(who=whos, key=st.sampled_from(SERVER_OWNED), op=st.sampled_from(OPERATIONS))
    def write_what_the_server_owns(self, who: int, key: str, op: str) -> None:
        """Nobody may, whatever the device holds; what waits behind it goes through."""
        device, value = self._object(who, key)
        stamp = self.world.stamp(device)
        match op:
            case "put":
                device.store.put(key, {**value, "xp": 1_000_000}, stamp)
            case "patch":
                device.store.patch(key, {"delta": {"xp": 1}} | stamp, with_base=True)
            case _:
                device.store.delete(key, stamp)

    # --- the network -------------------------------------------------------------------------

    @rule(who=whos)
    def sync(self, who: int) -> None:
        self._sync(who, "none", MUCH, MUCH)

    @rule(
        who=whos, fault=faults, limit=st.sampled_from([MUCH, 1, 2]), take=st.sampled_from([MUCH, 1])
    )
    def sync_badly(self, who: int, fault: Fault, limit: int, take: int) -> None:
        self._sync(who, fault, limit, take)

    def _sync(self, who: int, fault: Fault, limit: int, take: int) -> None:
        self.world.clock.now += 1
        self.world.sync(self.device(who), fault, limit, take)

    @rule(
        who=whos,
        place=st.sampled_from(COUNTERS),
        amount=amounts,
        crash=st.sampled_from(tuple(CRASHES)),
        what=st.none() | st.sampled_from(GOOD),
    )
    def count_in_a_crash(
        self,
        who: int,
        place: tuple[str, str],
        amount: int,
        crash: Fault,
        what: Happening | None,
    ) -> None:
        """The server fails at a commit, so it takes a request that writes to meet it."""
        if what is None:
            self._count(who, place, amount)
        else:
            self.world.happen(self.device(who), what, 0)
        self._sync(who, crash, MUCH, MUCH)

    @rule(who=whos, op=st.sampled_from(OPERATIONS), fault=faults_but_late)
    def write_alone(self, who: int, op: str, fault: Fault) -> None:
        """By PUT, PATCH or DELETE: what waits longest, or after a sync a new edit."""
        device = self.device(who)
        if [one.body["op"] for one in device.store.outbox[:1]] != [op]:
            self._sync(who, "none", MUCH, MUCH)
        if not device.store.outbox:
            match op:
                case "put":
                    self._count(who, COUNTERS[0], 1)
                case "patch":
                    self.count_by_patch(who, COUNTERS[0], 1, with_base=True)
                case _:
                    self.delete(who)
        self.world.clock.now += 1
        waiting = [one.body["op"] for one in device.store.outbox[:1]]
        if self.world.write_alone(device, fault):
            self.world.coverage[f"alone: {waiting[0]}"] += 1

    @rule(who=whos, fault=faults)
    def record_alone(self, who: int, fault: Fault) -> None:
        """By POST to the events: all that waits, or if nothing does something new."""
        device = self.device(who)
        if not device.store.events:
            self.world.happen(device, GOOD[0], 0)
        self.world.clock.now += 1
        self.world.record_alone(device, fault)
        self.world.coverage["alone: events"] += 1

    @precondition(lambda self: self.world.network.under_way)
    @rule(pick=st.integers(0, 9))
    def arrive(self, pick: int) -> None:
        self.world.network.arrive(pick)

    @rule(who=whos, other=whos, new=st.sampled_from([None, "edits", "events"]))
    def sync_two_at_once(self, who: int, other: int, new: str | None) -> None:
        one, devices = self.device(who), self.world.devices
        others = [it for it in devices if it is not one and it.store.account == one.store.account]
        if not others:
            return
        two = others[other % len(others)]
        for device in (one, two):
            if new == "edits":
                self._count(devices.index(device), COUNTERS[0], 1)
            elif new == "events":
                self.world.happen(device, GOOD[0], 0)
        self.world.sync_two(one, two)

    @rule(who=whos, place=busy_places)
    def a_busy_hour(self, who: int, place: tuple[str, str]) -> None:
        """More versions than the history keeps, so that other devices' bases are forgotten."""
        for _ in range(HISTORY + 1):
            if place in COUNTERS:
                self._count(who, place, 1)
            else:
                self._choose(who, place, 3)
        self._sync(who, "none", MUCH, MUCH)
        self.world.coverage["busy hour"] += 1

    # --- clocks, stores, backups, accounts ---------------------------------------------------

    @rule(elapsed=st.sampled_from([1, SECOND_MS, 180 * SECOND_MS, 2 * DAY_MS]))
    def time_passes(self, elapsed: int) -> None:
        self.world.clock.now += elapsed

    @rule(elapsed=absences)
    def fold(self, elapsed: int) -> None:
        self.world.fold(elapsed)

    @rule(who=whos, other=whos, place=busy_places, elapsed=absences)
    def come_back_after_folding(
        self, who: int, other: int, place: tuple[str, str], elapsed: int
    ) -> None:
        """A device has edited and is away while another writes and the document is folded."""
        for one in (who, other):
            if place in COUNTERS:
                self._count(one, place, 1)
            else:
                self._choose(one, place, 3)
        if self.device(who) is not self.device(other):
            self._sync(other, "none", MUCH, MUCH)
        self.world.fold(elapsed)

    @precondition(lambda self: not self.world.rules_changed)
    @rule()
    def change_rules(self) -> None:
        self.world.change_rules()
        self.world.coverage["rules changed"] += 1

    @rule(who=whos, skew=skews)
    def set_a_clock(self, who: int, skew: int) -> None:
        self.device(who).skew_ms = skew
        self.world.coverage["clock set"] += 1

    @precondition(lambda self: len(self.world.devices) < MOST_DEVICES)
    @rule(who=whos)
    def clone(self, who: int) -> None:
        """A store is copied to another device, and both go on."""
        self.world.open_copy(self.world.copy_store(self.device(who)))
        self.world.coverage["clone"] += 1

    @precondition(lambda self: len(self.world.devices) < MOST_DEVICES)
    @rule(who=whos)
    def back_up_or_restore_a_store(self, who: int) -> None:
        """A store is copied now, and opened later beside the one that went on."""
        if self.world.kept is None:
            self.world.kept = self.world.copy_store(self.device(who))
        else:
            self.world.open_copy(self.world.kept)
            self.world.kept = None
            self.world.coverage["restored store"] += 1

    @precondition(lambda self: self.world.seeded)
    @rule()
    def back_up_or_restore_the_server(self) -> None:
        if self.world.backup_versions is None:
            self.world.back_up()
        else:
            self.world.restore()
            self.world.coverage["restored server"] += 1

    @precondition(lambda self: self.world.seeded)
    @rule(who=whos)
    def relink(self, who: int) -> None:
        self.world.relink(self.device(who))
        self.world.coverage["relink"] += 1


def _waits_with_put(device: Device, key: str) -> bool:
    """Whether a whole document waits: until it is through, edits are whole documents too.

    A patch behind a put that is refused for its base would be applied before it.
    """
    return any(one.body["op"] == "put" for one in device.store.waiting(key))
