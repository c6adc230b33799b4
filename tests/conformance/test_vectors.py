"""The vectors that every client library must pass still say what the code does."""

import json
from typing import Any

import pytest

from merge_rules.canonical import encode as canonical
from merge_rules.definition import rule_from
from merge_rules.refusal import parse_pointer
from merge_rules.rule import ABSENT, Operation
from merge_rules.state import Stored, decode, encode
from tests.conformance import generate
from tests.conformance.scenarios import Write

VECTORS = json.loads(generate.FILE.read_text())["vectors"]


def test_the_file_is_what_the_code_generates() -> None:
    """A change of any merged byte must be seen, and meant: run the generator to accept it."""
    assert generate.FILE.read_text() == generate.text()


def stored(described: dict[str, Any]) -> Stored:
    value = described.get("bytes")
    return Stored(None if value is None else value.encode(), bytes.fromhex(described["sidecar"]))


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_vector_by_itself(vector: dict[str, Any]) -> None:
    """Read as a client would: nothing but the file, the rule from its own words, the bytes."""
    rule = rule_from(vector["rule"], {})
    assert rule is not None
    base = decode(rule, stored(vector["base"]))
    sides = []
    for write in vector["writes"]:
        wall, _, device = write["stamp"]
        operations = tuple(
            Operation(one["op"], parse_pointer(one["path"]), one.get("value", ABSENT))
            for one in write.get("operations", ())
        )
        made = Write(device, wall, write.get("value", ABSENT), operations)
        side = rule.apply(base, generate.delta_of(rule, base, made))
        assert encode(rule, side) == stored(write["after"])
        sides.append(side)
    for joined in (rule.join(*sides), rule.join(*reversed(sides))):
        assert encode(rule, joined) == stored(vector["joined"])
        assert canonical(rule.value(joined)).decode() == vector["joined"]["bytes"]


def test_what_the_vectors_cover() -> None:
    """Unicode beyond the basic plane, large integers, ties, removals and epochs are in there."""
    text = generate.FILE.read_text()
    for needle in ("\\ud83d\\ude00", str(2**53 - 1), "unset", "remove", "reset", "2028-02-29"):
        assert needle in text, needle
    names = {vector["rule"].partition("(")[0] for vector in VECTORS}
    assert names >= {
        *("last_write_wins", "maximum", "minimum", "flag", "best", "counter", "union"),
        *("causal_set", "map_of", "record", "samples", "days", "resettable"),
    }
