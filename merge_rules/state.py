"""States as they are stored: the app's plain JSON, and beside it a sidecar of metadata."""

from typing import Any, NamedTuple

from merge_rules.canonical import check
from merge_rules.canonical import decode as decode_json
from merge_rules.canonical import encode as encode_json
from merge_rules.refusal import NotCanonical
from merge_rules.rule import ABSENT, Rule, State
from merge_rules.sidecar import Sidecar


class RubbishError(Exception):
    """A rule of an app's own returned what it must not; its laws were not checked."""


class Stored(NamedTuple):
    """A state in two parts: canonical JSON (None where there is no value), and the sidecar."""

    value: bytes | None
    sidecar: bytes


def encode(rule: Rule, state: State) -> Stored:
    """The stored form of a state; `decode` gives back an equal state.

    Raises RubbishError if a rule of an app's own shows what no document may hold.
    """
    value = rule.value(state)
    if not rule.built_in and value is not ABSENT:
        _require_canonical(rule, value)
    sidecar = Sidecar.over(rule.stamps(state))
    packed = rule.pack(state, value, sidecar)
    return Stored(None if value is ABSENT else encode_json(value), sidecar.dump(packed))


def _require_canonical(rule: Rule, value: Any) -> None:
    """The encoder alone would store NaN as null, and a date or a set as something else."""
    try:
        check(value)
    except NotCanonical as error:
        raise RubbishError(f"{rule!r} shows a value that is not JSON: {error}") from error


def decode(rule: Rule, stored: Stored) -> State:
    """The state that `encode` stored. The rule must be the one that made it."""
    sidecar, packed = Sidecar.load(stored.sidecar)
    value = ABSENT if stored.value is None else decode_json(stored.value)
    return rule.unpack(value, packed, sidecar)
