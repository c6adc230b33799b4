"""Plain JSON in one column, metadata in a compact sidecar; that states come back is a law."""

import json
from typing import Any

import pytest

from merge_rules import (
    ABSENT,
    State,
    counter,
    last_write_wins,
    map_of,
    record,
    samples,
    strict,
)
from merge_rules.canonical import encode as canonical
from merge_rules.documents import USER_STATS
from merge_rules.scalar import Maximum
from merge_rules.sidecar import Sidecar
from merge_rules.stamp import ZERO
from merge_rules.state import RubbishError, Stored, decode, encode
from merge_rules.testing import exact, same
from tests.merge_rules.strategies import EVERYTHING


def test_strict_is_stored_without_a_sidecar() -> None:
    """A strict document is its value, so nothing may stand beside it."""
    stored = encode(strict, ({"a": 1},))
    assert stored == Stored(b'{"a":1}', b"")
    assert same(decode(strict, stored), ({"a": 1},))
    assert encode(strict, None) == Stored(None, b"")
    assert decode(strict, Stored(None, b"")) is None


def test_a_tombstone_keeps_its_stamp() -> None:
    """A field that was taken away must stay away when an older write arrives after a restart."""
    state = {"gone": ((5, 0, "a"),), "here": ((5, 0, "a"), 1)}
    rule = record({})
    assert same(decode(rule, encode(rule, state)), state)
    assert same(decode(last_write_wins, encode(last_write_wins, ((5, 0, "a"),))), ((5, 0, "a"),))


def test_a_state_under_no_value_comes_back() -> None:
    """An entry that is there and shows nothing, and a sole sample from another time."""
    themes = map_of(last_write_wins, removable=True)
    fields: State = {"gone": ((5, 0, "a"),), "x": ((6, 0, "b"), 1), "y": ((6, 0, "b"), 1)}
    assert same(decode(record({}), encode(record({}), fields)), fields)
    state: State = {"gone": (1, ((5, 0, "a"),)), "here": (1, ((6, 0, "b"), 1))}
    assert same(decode(themes, encode(themes, state)), state)
    rule = record({"speed": samples(3, 0.5)})
    state = {"speed": [((1, 0, "a"), 2.0)], "x": ((5, 0, "b"), 1), "y": ((5, 0, "b"), 1)}
    assert same(decode(rule, encode(rule, state)), state)


def test_the_floor_is_the_commonest_stamp_and_ties_take_the_greatest() -> None:
    """The floor costs nothing per field, and a choice by chance would change stored bytes."""
    early, late = (1, 0, "a"), (2, 0, "b")
    assert Sidecar.over([early, early, late]).floor == early
    assert Sidecar.over([late, early]).floor == Sidecar.over([early, late]).floor == late
    assert Sidecar.over([]).floor == ZERO


def test_a_state_without_metadata_has_an_empty_sidecar() -> None:
    """Most small documents need no sidecar; an empty one must cost no byte."""
    assert encode(EVERYTHING, {"top": 5, "items": [1], "done": True}).sidecar == b""


def test_a_sole_counter_writes_its_sum_once() -> None:
    """With one device the sum is the value, so the sidecar leaves it out and finds it again."""
    state = {"phone": (3, 4321)}
    stored = encode(counter, state)
    assert same(decode(counter, stored), state)
    assert b"\xcd" not in stored.sidecar  # no two-byte integer: 4321 is not in there


@pytest.mark.parametrize(
    "device",
    [
        "0f3a9c1e-5b7d-4c1f-9a51-0d2f4b6c8e90",
        "0F3A9C1E-5B7D-4C1F-9A51-0D2F4B6C8E90",
        "0f3a9c1e5b7d4c1f9a510d2f4b6c8e90",
        "0f3a9c1e-5b7d-4c1f-9a51-0d2f4b6c8e9",
        "0f3a9c1e-5b7d-4c1f-9a51-0d2f4b6c8e90-",
        "phone",
    ],
)
def test_a_device_keeps_its_name_in_storage(device: str) -> None:
    """UUIDs are stored as 16 bytes; a device that came back under another name counts twice."""
    state = {device: (3, 5), "other": (1, 1)}
    assert same(decode(counter, encode(counter, state)), state)
    assert same(decode(counter, encode(counter, {device: (3, 5)})), {device: (3, 5)})
    written = ((5, 1, device), "x")
    assert same(decode(last_write_wins, encode(last_write_wins, written)), written)


def _document_of_320_bytes() -> dict[str, Any]:
    value: dict[str, Any] = {f"field_{n}": f"value number {n}" for n in range(9)}
    value |= {"xp": 1200, "hearts": 5}
    value["pad"] = "x" * (320 - len(json.dumps(value, separators=(",", ":"))) - 9)
    assert len(canonical(value)) == 320
    return value


BUDGETED = record({"xp": counter, "hearts": counter})
NOW = 1_764_000_000_000
DEVICES = (
    "0f3a9c1e-5b7d-4c1f-9a51-0d2f4b6c8e90",
    "77b2d410-93ee-4f0a-8c55-1b2a3c4d5e6f",
    "c4e8aa05-2d4b-4a6e-b1f3-9e8d7c6b5a40",
)


def test_the_sidecar_of_one_device_keeps_its_budget() -> None:
    """Design §2 gives the sidecar of a 320-byte document at most 50 bytes with one device."""
    value, state = _document_of_320_bytes(), BUDGETED.bottom
    for number in range(40):
        value = value | {"xp": value["xp"] + 10, "hearts": number, "field_1": f"edit {number}"}
        state = BUDGETED.advance(state, value, (NOW + 60_000 * number, 0, DEVICES[0]))
    assert len(encode(BUDGETED, state).sidecar) <= 50
    stats: dict[str, Any] = {
        name: 100 + number for number, name in enumerate(USER_STATS.fields)
    } | {"name": "Maja"}
    for number in range(40):
        stats = {name: 1 + item if name != "name" else item for name, item in stats.items()}
        state = USER_STATS.advance(state if number else {}, stats, (NOW + number, 0, DEVICES[0]))
    assert len(encode(USER_STATS, state).sidecar) <= 50


def test_the_sidecar_of_three_devices_keeps_its_budget() -> None:
    """Design §2 gives it at most 170 bytes with three devices and two counters."""
    value = _document_of_320_bytes()
    state = BUDGETED.bottom
    for number, device in enumerate(DEVICES):
        value = value | {
            "xp": value["xp"] + 10,
            "hearts": value["hearts"] - 1,
            f"field_{number}": f"by {device}",
            f"field_{number + 3}": f"by {device}",
        }
        state = BUDGETED.advance(state, value, (NOW + 60_000 * number, 0, device))
    assert len(encode(BUDGETED, state).sidecar) <= 170


class Rubbish(Maximum):
    """An app's own rule that shows whatever it was given."""

    name = "rubbish"

    def check(self, value: Any, path: tuple[str, ...] = ()) -> None:
        pass


def test_what_an_apps_own_rule_shows_must_be_json() -> None:
    """The encoder would store NaN as null, and every device would read another value."""
    with pytest.raises(RubbishError, match=r"^rubbish shows a value that is not JSON: NaN"):
        encode(Rubbish(), float("nan"))
    assert encode(Rubbish(), 5) == Stored(b"5", b"")
    assert encode(Rubbish(), None) == Stored(None, b"")


def test_exact_equality_tells_look_alikes_apart() -> None:
    """The whole suite compares with this, so it must see what == does not."""
    assert len({exact(item) for item in (True, 1, 1.0, "1", ABSENT, "absent", None)}) == 7
