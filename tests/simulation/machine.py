"""Devices and one service, with a network between them that does what networks do."""

import copy
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import msgspec
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from app.clock import system_clock
from tests.conftest import Service
from tests.simulation.device import Device, Json
from tests.simulation.oracle import COUNTERS, MAXIMA, Oracle, exact

DAY_MS = 86_400_000
DEVICES = ("d0", "d1", "d2", "d3")
HISTORY = 4

devices = st.sampled_from(DEVICES)
amounts = st.integers(1, 9)
"""Not below zero: see test_a_count_below_zero_on_a_forgotten_base."""
limits = st.sampled_from([1, 2, 500])
themes = st.sampled_from(["sea", "sun"])


@dataclass
class Network:
    """The way to the service: requests that are under way are kept here, in any order."""

    client: httpx.Client
    coverage: Counter[str]
    under_way: list[Json] = field(default_factory=list)

    def deliver(self, request: Json) -> Json:
        response = self.client.post("/v1/sync", content=msgspec.json.encode(request))
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        self.coverage.update(result["outcome"] for result in answer["results"])
        self.coverage["base-unknown"] += sum(
            result.get("problem", {}).get("code") == "base-unknown" for result in answer["results"]
        )
        return answer

    def deliver_late(self, request: Json) -> None:
        """The answer goes nowhere; the device may long have gone on, so that it looks forked."""
        response = self.client.post("/v1/sync", content=msgspec.json.encode(request))
        if response.status_code == 409:
            assert response.json()["code"] == "device-forked"
            self.coverage["late fork"] += 1
            return
        assert response.status_code == 200, response.text
        self.coverage["late"] += 1


class Devices(RuleBasedStateMachine):
    """Edits offline, syncs through a hostile network; in the end all must agree.

    Faults live in the transport, so they shrink. `service` and `coverage` are set by the test.
    """

    service: Service
    coverage: Counter[str]

    @initialize(
        skews=st.lists(
            st.sampled_from([0, 0, 90_000, -90_000, 3 * DAY_MS, -9 * DAY_MS]),
            min_size=len(DEVICES),
            max_size=len(DEVICES),
        ),
        seed=st.integers(0, 2**32),
    )
    def begin(self, skews: list[int], seed: int) -> None:
        self.client = self.service.client()
        self.network = Network(self.client, self.coverage)
        self.oracle = Oracle()
        rng = random.Random(seed)
        self.numbers = count(1)
        self.devices = {
            name: Device(name, skew, rng) for name, skew in zip(DEVICES, skews, strict=True)
        }
        self.answered: dict[str, Json] = {}
        self._begin_the_note()

    def _begin_the_note(self) -> None:
        """All devices know a first note: see test_two_edits_of_a_new_document_in_one_moment."""
        device = self.devices["d0"]
        self.write_a_note(device.name)
        for name in DEVICES:
            self.sync(name, 500)

    def teardown(self) -> None:
        if hasattr(self, "client"):
            try:
                self._settle()
            finally:
                self.client.close()

    # --- edits -------------------------------------------------------------------------------

    def _look(self, device: Device, key: str) -> Any:
        """A copy of the document as the device sees it, noted as seen."""
        _, value = device.view(key)
        if key == "note":
            if value is not None:
                self.oracle.saw(device.name, (key,), value)
            return value
        value = copy.deepcopy(value or {})
        for name in ("theme", "title"):
            if name in value:
                self.oracle.saw(device.name, (key, name), value[name])
        for name, held in value.get("ai_themes", {}).items():
            self.oracle.saw(device.name, (key, "ai_themes", name), held)
        return value

    @rule(name=devices, key=st.sampled_from(sorted(COUNTERS)), amount=amounts, pick=st.booleans())
    def count_in_the_document(self, name: str, key: str, amount: int, pick: bool) -> None:
        device, counter = self.devices[name], COUNTERS[key][pick]
        value = self._look(device, key)
        value[counter] = value.get(counter, 0) + amount
        self._put(device, key, value)
        self.oracle.counted((key, counter), amount)

    @rule(name=devices, key=st.sampled_from(sorted(COUNTERS)), amount=amounts, base=st.booleans())
    def count_by_patch(self, name: str, key: str, amount: int, base: bool) -> None:
        device, counter = self.devices[name], COUNTERS[key][0]
        if device.waits_with_put(key):
            return
        self._look(device, key)
        device.patch(key, system_clock(), with_base=base, delta={counter: amount})
        self.oracle.counted((key, counter), amount)

    @rule(name=devices, key=st.sampled_from(sorted(MAXIMA)), amount=st.integers(-3, 20))
    def reach(self, name: str, key: str, amount: int) -> None:
        device, maximum = self.devices[name], MAXIMA[key][0]
        value = self._look(device, key)
        value[maximum] = amount
        self._put(device, key, value)
        self.oracle.reached((key, maximum), amount)

    @rule(name=devices, place=st.sampled_from("ab"), amount=st.integers(0, 9), stars=st.booleans())
    def best(self, name: str, place: str, amount: int, stars: bool) -> None:
        device = self.devices[name]
        key, best = ("lesson_progress", "best_stars") if stars else ("game_stats", "best_scores")
        value = self._look(device, key)
        value.setdefault(best, {})[place] = amount
        self._put(device, key, value)
        self.oracle.reached((key, best, place), amount)

    @rule(name=devices, lesson=st.integers(1, 5))
    def complete(self, name: str, lesson: int) -> None:
        device, key = self.devices[name], "lesson_progress"
        value = self._look(device, key)
        value["completed"] = [*value.get("completed", []), lesson]
        self._put(device, key, value)
        self.oracle.unions[key, "completed"].add(exact(lesson))

    @rule(name=devices, done=st.booleans())
    def flag(self, name: str, done: bool) -> None:
        device, key = self.devices[name], "lesson:1"
        value = self._look(device, key)
        value["is_completed"] = done
        self._put(device, key, value)
        if done:
            self.oracle.flags.add((key, "is_completed"))

    @rule(
        name=devices,
        place=st.sampled_from(
            [("settings", "theme"), ("user_stats", "theme"), ("lesson:1", "title")]
        ),
    )
    def choose(self, name: str, place: tuple[str, str]) -> None:
        (key, field_name), device = place, self.devices[name]
        value = self._look(device, key)
        value[field_name] = f"{name}-{next(self.numbers)}"
        self._put(device, key, value)
        self.oracle.wrote(name, (key, field_name), value[field_name])

    @rule(name=devices)
    def choose_by_patch(self, name: str) -> None:
        device, key = self.devices[name], "settings"
        if device.waits_with_put(key):
            return
        self._look(device, key)
        chosen = f"{name}-{next(self.numbers)}"
        device.patch(key, system_clock(), with_base=False, set={"theme": chosen})
        self.oracle.wrote(name, (key, "theme"), chosen)

    @rule(name=devices, theme=themes, keep=st.booleans())
    def ai_theme(self, name: str, theme: str, keep: bool) -> None:
        """Adds or changes a theme, or takes it away."""
        device, key = self.devices[name], "settings"
        value = self._look(device, key)
        held = value.setdefault("ai_themes", {})
        path = (key, "ai_themes", theme)
        if keep:
            held[theme] = f"{name}-{next(self.numbers)}"
            self.oracle.wrote(name, path, held[theme])
        elif theme in held:
            del held[theme]
            self.oracle.wrote(name, path, None)
        self._put(device, key, value)

    @rule(name=devices)
    def write_a_note(self, name: str) -> None:
        """The whole document by last write wins."""
        device = self.devices[name]
        self._look(device, "note")
        value = {"text": f"{name}-{next(self.numbers)}"}
        self._put(device, "note", value)
        self.oracle.wrote(name, ("note",), value)

    def _put(self, device: Device, key: str, value: Any) -> None:
        device.put(key, value, system_clock())

    # --- the network -------------------------------------------------------------------------

    @rule(name=devices, limit=limits)
    def sync(self, name: str, limit: int) -> None:
        device = self.devices[name]
        request = device.request(system_clock(), limit)
        self._answer(device, request, self.network.deliver(request))

    @rule(name=devices, limit=limits)
    def sync_and_lose_the_answer(self, name: str, limit: int) -> None:
        request = self.devices[name].request(system_clock(), limit)
        self.network.deliver(request)
        self.coverage["lost answer"] += 1

    @rule(name=devices, limit=limits, first=st.booleans())
    def sync_twice(self, name: str, limit: int, first: bool) -> None:
        """The request is doubled on its way, and one of the two answers comes back."""
        device = self.devices[name]
        request = device.request(system_clock(), limit)
        answers = [self.network.deliver(request) for _ in range(2)]
        self._answer(device, request, answers[0 if first else 1])

    @rule(name=devices)
    def sync_later(self, name: str) -> None:
        """The device gives up while the request is still under way."""
        device = self.devices[name]
        if device.outbox:
            self.network.under_way.append(device.request(system_clock(), 500))

    @rule(pick=st.integers(0, 99))
    def arrive(self, pick: int) -> None:
        """Some request of the past arrives, its answer goes nowhere."""
        waiting = self.network.under_way
        if waiting:
            self.network.deliver_late(waiting.pop(pick % len(waiting)))

    @rule(name=devices, amount=amounts)
    def a_busy_hour(self, name: str, amount: int) -> None:
        """More versions than the history keeps, so that other devices' bases are forgotten."""
        for _ in range(HISTORY + 1):
            self.count_in_the_document(name, "user_stats", amount, pick=False)
            self.choose(name, ("settings", "theme"))
        self.sync(name, 500)

    def _answer(self, device: Device, request: Json, answer: Json) -> None:
        rejected = device.adopt(request, answer)
        for body, result in zip(request["mutations"], answer["results"], strict=True):
            assert result["id"] == body["id"]
            if result["outcome"] != "rejected":
                self.answered[body["id"]] = body
        for result in rejected:
            assert result["problem"]["code"] == "base-unknown", result
        note(f"{device.name} synced: {[one['outcome'] for one in answer['results']]}")

    # --- the end -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Everything arrives, everybody pulls, and the books are checked."""
        while self.network.under_way:
            self.network.deliver_late(self.network.under_way.pop())
        for _ in range(4):  # a rejection for a forgotten base takes a second round
            for device in self.devices.values():
                self.sync(device.name, 500)
        assert not any(device.outbox for device in self.devices.values())
        fresh = Device("fresh", 0, random.Random(0))
        request = {"device": None, "limit": 500}
        answer = self.client.post("/v1/sync", json=request).json()
        fresh.adopt({"mutations": []}, answer)
        held = {key: (one.version, exact(one.value)) for key, one in fresh.copies.items()}
        for device in self.devices.values():
            copies = {key: (one.version, exact(one.value)) for key, one in device.copies.items()}
            assert copies == held, f"{device.name} holds something else"
        self.oracle.check({key: one.value for key, one in fresh.copies.items()})
        self._send_everything_again(answer["cursor"])
        self.coverage["runs"] += 1

    def _send_everything_again(self, cursor: str) -> None:
        """Exactly once: whatever was acknowledged is known, and changes nothing any more."""
        bodies = list(self.answered.values())
        if not bodies:
            return
        request = {"device": "d0", "cursor": cursor, "mutations": bodies}
        answer = self.client.post("/v1/sync", json=request).json()
        assert {result["outcome"] for result in answer["results"]} == {"duplicate"}
        assert (answer["changes"], answer["cursor"]) == ([], cursor)
