"""Writes the conformance vectors: `python -m tests.conformance.generate`.

Every client that merges must come to the same values; servers also to the same states.
"""

import json
from pathlib import Path
from typing import Any

from merge_rules import Rule, State
from merge_rules.canonical import encode as canonical
from merge_rules.receipt import explain
from merge_rules.refusal import pointer
from merge_rules.rule import ABSENT
from merge_rules.stamp import Stamp
from merge_rules.state import encode
from tests.conformance.scenarios import NOW, SCENARIOS, Scenario, Write

FILE = Path(__file__).parent / "merges.json"


def vectors() -> dict[str, Any]:
    """All vectors, as the file holds them."""
    return {
        "about": "For each vector: `base` is the state that both devices saw. Each write is "
        "made on it (`delta`), and both orders of joining give `joined`. Stamps are "
        "[wall time in ms, counter, device]. A state is stored as the canonical bytes of its "
        "value beside its sidecar in hexadecimal. An absent `value` is no value at all.",
        "vectors": [_vector(scenario) for scenario in SCENARIOS],
    }


def _vector(scenario: Scenario) -> dict[str, Any]:
    rule, base = scenario.rule, scenario.rule.bottom
    for number, value in enumerate(scenario.base):
        base = rule.advance(base, value, (NOW - 1_000 + number, 0, "base"))
    deltas = [delta_of(rule, base, write) for write in (scenario.one, scenario.two)]
    sides = [rule.apply(base, delta) for delta in deltas]
    joined = rule.join(*sides)
    values = [rule.value(state) for state in (base, sides[0], sides[1], joined)]
    return {
        "name": scenario.name,
        "why": scenario.why,
        "rule": rule.describe(),
        "base": _state(rule, base),
        "writes": [
            {**_write(write), "delta": _plain(delta), "after": _state(rule, side)}
            for write, delta, side in zip((scenario.one, scenario.two), deltas, sides, strict=True)
        ],
        "joined": _state(rule, joined),
        "receipt": [_plain(entry) for entry in explain(rule, *values)],
    }


def delta_of(rule: Rule, base: State, write: Write) -> State:
    """What a write changes of the base that its device saw."""
    stamp: Stamp = (write.at, 0, write.device)
    if write.value is not ABSENT:
        rule.check(write.value)
        return rule.delta(base, write.value, stamp)
    state, delta = base, rule.bottom
    for operation in write.operations:
        change = rule.operate(state, operation, operation.path, stamp)
        state, delta = rule.apply(state, change), rule.apply(delta, change)
    return delta


def _write(write: Write) -> dict[str, Any]:
    made: dict[str, Any] = {"stamp": [write.at, 0, write.device]}
    if write.value is not ABSENT:
        return {**made, "value": write.value}
    operations = []
    for operation in write.operations:
        body: dict[str, Any] = {"op": operation.op, "path": pointer(operation.path)}
        operations.append(body if operation.value is ABSENT else {**body, "value": operation.value})
    return {**made, "operations": operations}


def _state(rule: Rule, state: State) -> dict[str, Any]:
    stored, value = encode(rule, state), rule.value(state)
    described = {"state": _plain(state), "sidecar": stored.sidecar.hex()}
    if value is ABSENT:
        return described
    return {"value": _plain(value), "bytes": canonical(value).decode(), **described}


def _plain(state: State) -> Any:
    """A state or value as JSON: tuples are arrays, and keys have an order."""
    return json.loads(json.dumps(state, sort_keys=True))


def text() -> str:
    return json.dumps(vectors(), ensure_ascii=True, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"{len(SCENARIOS)} vectors in {FILE.name}")
