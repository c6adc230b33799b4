"""The rules that a run begins with: those that ship, and one for a document that comes and goes."""

from merge_rules import Registry, causal_set, counter, maximum, record

TALLY = {"n": counter, "best": maximum, "tags": causal_set}


def register(registry: Registry) -> None:
    """What `SYNCLINE_RULES` names at first."""
    registry.register("tally", record(TALLY))
