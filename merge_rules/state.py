"""States as they are stored: the app's plain JSON, and beside it a sidecar of metadata."""

from typing import NamedTuple

from merge_rules.canonical import decode as decode_json
from merge_rules.canonical import encode as encode_json
from merge_rules.rule import ABSENT, Rule, State
from merge_rules.sidecar import Sidecar


class Stored(NamedTuple):
    """A state in two parts: canonical JSON (None where there is no value), and the sidecar."""

    value: bytes | None
    sidecar: bytes


def encode(rule: Rule, state: State) -> Stored:
    """The stored form of a state; `decode` gives back an equal state."""
    value = rule.value(state)
    sidecar = Sidecar.over(rule.stamps(state))
    packed = rule.pack(state, value, sidecar)
    return Stored(None if value is ABSENT else encode_json(value), sidecar.dump(packed))


def decode(rule: Rule, stored: Stored) -> State:
    """The state that `encode` stored. The rule must be the one that made it."""
    sidecar, packed = Sidecar.load(stored.sidecar)
    value = ABSENT if stored.value is None else decode_json(stored.value)
    return rule.unpack(value, packed, sidecar)
