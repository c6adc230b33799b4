"""Values that a merge must give: laws alone would let a join pass that returns a constant.

Devices with local copies edit one document with a field of every rule and send it whole, as
apps do. Beside the server runs a ledger of intentions: who changed what, having seen what.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import (
    ABSENT,
    Operation,
    Rule,
    best,
    causal_set,
    counter,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    strict,
    union,
)
from tests.merge_rules.strategies import (
    DEVICES,
    TINY_ITEMS,
    TINY_NUMBERS,
    Server,
    devices,
    exact,
    examples,
    one_of_exactly,
    same,
    stamps,
    tiny_values,
)

THING = record(
    {
        "count": counter,
        "top": maximum,
        "low": minimum,
        "done": flag,
        "star": best("n"),
        "items": union,
        "tags": causal_set,
        "themes": map_of(last_write_wins, removable=True),
    }
)

Place = tuple[str, str]
"""A spot that one device can decide: a field, or an item or key inside it."""


@dataclass
class Edit:
    """One change of one place, and every edit that its author had seen."""

    place: Place
    value: Any
    past: frozenset[int]


@dataclass
class Device:
    """A local store: its copy, the version that it came from, and the edits it knows of."""

    value: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    known: frozenset[int] = frozenset()


@dataclass
class World:
    """Devices, one server, and the ledger of what the users meant."""

    server: Server = field(default_factory=lambda: Server(THING, [THING.bottom]))
    devices: dict[str, Device] = field(default_factory=lambda: {name: Device() for name in DEVICES})
    edits: list[Edit] = field(default_factory=list)
    known: frozenset[int] = frozenset()
    increments: int = 0
    written: dict[str, list[Any]] = field(default_factory=dict)

    def pull(self, name: str) -> None:
        device = self.devices[name]
        device.value = THING.value(self.server.current)
        device.version = self.server.version
        device.known = self.known | device.known

    def put(self, name: str, changes: dict[str, Any], stamp: tuple[int, int, str]) -> None:
        """The user changes some fields; the device queues its whole copy on its old base."""
        device = self.devices[name]
        base = THING.value(self.server.base(name, device.version))
        for fieldname in ("count", "theme", "tags", "themes"):
            assert same(base.get(fieldname, ABSENT), device.value.get(fieldname, ABSENT))
        before, after = device.value, device.value | changes
        if "count" in changes:
            self.increments += after["count"] - before.get("count", 0)
        for fieldname in changes:
            self.written.setdefault(fieldname, []).append(after[fieldname])
        places = _places(before), _places(after)
        for place in {**places[0], **places[1]}:
            old, new = (side.get(place, ABSENT) for side in places)
            if not same(old, new):
                self.edits.append(Edit(place, new, device.known))
                device.known |= {len(self.edits) - 1}
        device.value = after
        self.server.put(name, device.version, after, stamp)
        self.known |= device.known

    def maximal(self, place: Place) -> list[Any]:
        """The values of the edits of a place that no other edit of it has seen."""
        here = {index: edit for index, edit in enumerate(self.edits) if edit.place == place}
        seen = frozenset().union(*(edit.past for edit in here.values()))
        return [edit.value for index, edit in here.items() if index not in seen]

    def verify(self) -> None:
        value = THING.value(self.server.current)
        assert value.get("count", 0) == self.increments
        for name, greatest in (("top", max), ("low", min), ("done", max)):
            if name in self.written:
                assert value[name] == greatest(self.written[name])
        if "star" in self.written:
            assert value["star"]["n"] == max(star["n"] for star in self.written["star"])
            assert one_of_exactly(value["star"], self.written["star"])
        items = [item for sent in self.written.get("items", []) for item in sent]
        assert _texts(value.get("items", [])) == _texts(items)
        places = _places(value)
        for place in {edit.place for edit in self.edits}:
            assert one_of_exactly(places.get(place, ABSENT), self.maximal(place)), place
        assert {*places} <= {edit.place for edit in self.edits}


def _texts(items: Iterable[Any]) -> set[str]:
    return {repr(item) for item in items}


def _places(value: dict[str, Any]) -> dict[Place, Any]:
    """What single edits decide: the plain field, each tag (present or not), each theme."""
    places: dict[Place, Any] = {("tags", repr(item)): True for item in value.get("tags", [])}
    places |= {("themes", key): item for key, item in value.get("themes", {}).items()}
    return places | {("theme", ""): value["theme"]} if "theme" in value else places


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(-3, 3),
        "top": st.sampled_from(TINY_NUMBERS),
        "low": st.sampled_from(TINY_NUMBERS),
        "done": st.booleans(),
        "star": st.fixed_dictionaries({"n": st.sampled_from(TINY_NUMBERS), "x": st.booleans()}),
        "items": st.lists(st.sampled_from(TINY_ITEMS), max_size=2),
        "tags": st.lists(st.sampled_from(TINY_ITEMS[:3]), max_size=2, unique_by=repr),
        "themes": st.dictionaries(st.sampled_from("kl"), st.sampled_from([1, 1.0, True])),
        "theme": tiny_values,
    },
)
# Most real writes change little, and conflicts need several of them on one field.
ONE_CHANGE = CHANGES.map(lambda changes: dict(list(changes.items())[:1]))


@examples(300)
@given(
    st.lists(
        st.tuples(devices, st.sampled_from(["put", "put", "pull"]), CHANGES | ONE_CHANGE, stamps()),
        max_size=10,
    )
)
def test_every_field_holds_what_the_users_meant(
    steps: list[tuple[str, str, dict[str, Any], tuple[int, int, str]]],
) -> None:
    """Counters sum every change, extremes are exact, and a maximal edit wins every other field."""
    world = World()
    for name, action, changes, stamp in steps:
        if action == "pull":
            world.pull(name)
        else:
            if "tags" in changes:
                texts = {exact(tag).decode(): 1 for tag in changes["tags"]}
                changes = changes | {"tags": causal_set.value(texts)}
            world.put(name, changes, (stamp[0], stamp[1], name))
        world.verify()


@examples(60)
@given(
    st.lists(st.tuples(devices, st.booleans(), st.integers(-5, 5)), max_size=12),
    st.integers(-5, 5),
)
def test_a_counter_is_the_sum_of_all_changes(
    steps: list[tuple[str, bool, int]], imported: int
) -> None:
    """Increments by PUT and by PATCH, queued or not, count once each, over an imported count."""
    server = Server(counter, [counter.adopt(imported, (1, 0, ""))])
    local = dict.fromkeys(DEVICES, (imported, 0))
    expected = imported
    for name, patched, amount in steps:
        value, version = local[name]
        if patched:
            server.patch(name, Operation("increment", (), amount), (1, 0, name))
            local[name] = counter.value(server.current), server.version
        else:
            server.put(name, version, value + amount, (1, 0, name))
            local[name] = value + amount, version
        expected += amount
        assert counter.value(server.current) == expected


def _queue(rule: Rule, first: Any, *values: Any) -> Any:
    """The value after a device wrote all the values on one base that held `first`."""
    server = Server(rule, [rule.adopt(first, (5, 0, "a"))])
    for value in values:
        server.put("b", 0, value, (1, 0, "b"))
    return rule.value(server.current)


@pytest.mark.parametrize(
    ("rule", "first", "values", "expected"),
    [
        (last_write_wins, "dark", ["light", "dark"], "dark"),
        (counter, 5, [6, 7], 7),
        (counter, 5, [6, 5], 5),
        (causal_set, [], [["x"], []], []),
        (causal_set, ["x"], [[], ["x"]], ["x"]),
        (map_of(counter, removable=True), {}, [{"k": 1}, {}, {"k": 2}], {"k": 2}),
    ],
)
def test_a_queue_on_one_base_ends_in_its_last_write(
    rule: Rule, first: Any, values: list[Any], expected: Any
) -> None:
    """Without the device's own view, an undo or a second increment on one base is lost."""
    assert same(_queue(rule, first, *values), expected)
    inside = record({"f": rule})
    assert same(_queue(inside, {"f": first}, *({"f": v} for v in values)), {"f": expected})


def test_a_slow_clock_does_not_undo_an_edit_that_saw_the_value() -> None:
    """A device whose clock lags by years must still be able to change what it sees."""
    base = last_write_wins.advance(None, "dark", (9_000, 3, "z"))
    edited = last_write_wins.advance(base, "light", (1, 0, "a"))
    assert edited == ((9_000, 4, "a"), "light")


def test_concurrent_edits_are_decided_by_time() -> None:
    """Between two edits that did not see each other the later one stands, whoever syncs last."""
    base = last_write_wins.advance(None, "dark", (1, 0, "a"))
    early = last_write_wins.advance(base, "light", (10, 0, "z"))
    late = last_write_wins.advance(base, "blue", (11, 0, "b"))
    assert last_write_wins.value(last_write_wins.join(late, early)) == "blue"


def test_equal_stamps_are_decided_by_bytes() -> None:
    """Two edits with one stamp must end alike everywhere, even where == sees no difference."""
    stamp = (1, 0, "a")
    for low, high in [(1, 1.0), (1, True), (False, True), ([1.0], [1])]:
        for pair in [(low, high), (high, low)]:
            a, b = ((stamp, item) for item in pair)
            assert same(last_write_wins.join(a, b), (stamp, high))
    assert same(last_write_wins.join((stamp,), (stamp, None)), (stamp, None))


def test_a_removal_beats_an_edit_that_had_not_seen_it() -> None:
    """A theme deleted on one device must not come back half-filled from another's old edit."""
    themes = map_of(record({"uses": counter}), removable=True)
    base = themes.advance({}, {"k": {"uses": 1}}, (1, 0, "a"))
    removed = themes.advance(base, {}, (2, 0, "a"))
    edited = themes.advance(base, {"k": {"uses": 5}}, (3, 0, "b"))
    assert themes.value(themes.join(removed, edited)) == {}
    again = themes.advance(removed, {"k": {"uses": 1}}, (4, 0, "a"))
    assert themes.value(themes.join(again, edited)) == {"k": {"uses": 1}}


def test_a_count_is_held_within_what_json_can_carry() -> None:
    """Two devices may each be in range and their sum not; the value must stay canonical."""
    limit = 2**53 - 1
    both = counter.join({"a": (1, limit)}, {"b": (1, 7)})
    assert counter.value(both) == limit
    assert counter.value({"a": (1, -limit), "b": (1, -7)}) == -limit


def test_strict_replaces_and_joins_by_bytes() -> None:
    """Strict never merges in the service; linking accounts must still end alike everywhere."""
    base = strict.advance(None, {"v": 1}, (1, 0, "a"))
    assert same(strict.advance(base, {"v": 1}, (2, 0, "a")), base)
    assert same(strict.delta(base, {"v": 1}, (2, 0, "a")), None)
    assert same(strict.advance(base, {"v": 0}, (2, 0, "a")), ({"v": 0},))
    assert same(strict.advance(base, {"v": 1.0}, (2, 0, "a")), ({"v": 1.0},))
    for a, b in [((1,), (1.0,)), ((1.0,), (1,))]:
        assert same(strict.join(a, b), (1.0,))
    assert same(strict.join(None, (1,)), (1,))
    assert same(strict.join((1,), None), (1,))
    assert strict.value(None) is ABSENT
