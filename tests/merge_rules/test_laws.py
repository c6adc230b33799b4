"""Every rule of this package keeps the laws that an app's own rules are checked by."""

import secrets
from itertools import product

import pytest

from merge_rules import Rule, days, map_of, record, resettable, samples, strict
from merge_rules.counter import counter
from merge_rules.register import last_write_wins
from merge_rules.testing import check_laws
from merge_rules.verification import laws
from merge_rules.verification.story import Made
from merge_rules.verification.watched import Watched
from tests.merge_rules.strategies import FOR_MUTANTS, POOLS, RULES, SHIPPED

DERIVED: dict[str, Rule] = {
    "strict": strict,
    "samples": samples(2, 0.5),
    "days": days,
    "map_of_days": map_of(days),
    "removable_map_of_days": map_of(days, removable=True),
    "resettable_counter": resettable(counter),
    "resettable_last_write_wins": resettable(last_write_wins),
    "resettable_record": resettable(record({"count": counter})),
    "record_of_derived": record(
        {"life": resettable(counter), "speed": samples(3, 0.3), "streak": days}
    ),
}
ALL: dict[str, Rule] = {**RULES, **DERIVED}


@pytest.mark.parametrize("name", POOLS)
def test_join_is_a_semilattice_on_all_colliding_triples(name: str) -> None:
    """Tie-breaks go wrong only where stamps, counts or values collide, so all do, in all ways."""
    rule = Watched(RULES[name])
    for a, b, c in product(map(Made, POOLS[name]), repeat=3):
        laws.joining(rule, a, b, c)


@pytest.mark.parametrize("name", ALL)
def test_every_rule_keeps_the_laws(name: str) -> None:
    """Laws and oracles, on colliding states, on what devices bring about, and on old states."""
    seed = None if FOR_MUTANTS else secrets.randbits(32)
    count = 6 if FOR_MUTANTS else 10 if name in SHIPPED else 25
    found = check_laws(ALL[name], count, seed=seed)
    assert found, f"with seed {seed}: {found}"


def test_at_one_stamp_a_value_beats_its_removal() -> None:
    """Nobody can say which came first, so what a user may still need is kept."""
    removed, written = ((5, 0, "a"),), ((5, 0, "a"), 1)
    assert last_write_wins.join(removed, written) == written
    assert last_write_wins.join(written, removed) == written
