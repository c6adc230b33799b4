"""A short trial of an app's own rule: the laws on a small pool, the same each time.

It finds what a few colliding writes show, in milliseconds, and so stands at registration;
`merge_rules.testing` looks further. Rules made of built-in ones alone are not tried at all.
"""

from collections.abc import Callable, Iterator
from itertools import islice, product

from merge_rules.refusal import Refusal
from merge_rules.rule import Rule
from merge_rules.stamp import Stamp
from merge_rules.verification import laws
from merge_rules.verification.exact import exact
from merge_rules.verification.examples import example_values
from merge_rules.verification.story import Counterexample, Law, Made, Violation, Write
from merge_rules.verification.watched import PATIENCE_S, RAISES, Watched
from merge_rules.verification.world import World

VALUES = 6
STATES = 10
# Equal times of two devices, equal stamps with other values, and a later one.
STAMPS: tuple[Stamp, ...] = ((1, 0, "a"), (1, 0, "b"), (2, 0, "a"))
LATER: Stamp = (3, 0, "c")

EXAMPLES = Law("examples", "there are values to try the rule with")


def try_rule(rule: Rule, patience_s: float = PATIENCE_S) -> Counterexample | None:
    """The first law that a part of the rule breaks on the pool; None if all hold."""
    for part in own_parts(rule):
        watched = Watched(part, patience_s)
        try:
            _try(watched)
        except Violation as violation:
            return Counterexample.of(watched.describe(), violation)
    return None


def first_nameless(rule: Rule) -> str | None:
    """Says which part of the rule cannot be told apart; None if every one has a name."""
    for part in own_parts(rule):
        try:
            names_itself(Watched(part))
        except Violation:
            return (
                f"a {type(part).__name__} does not say what it is: give it a `name`, and a"
                " `describe` that returns text"
            )
    return None


def own_parts(rule: Rule) -> list[Rule]:
    """The app's own rules in a composition, the innermost first."""
    found: dict[int, Rule] = {}
    entered: set[int] = set()

    def visit(one: Rule) -> None:
        if id(one) in entered or one.built_in:
            return
        entered.add(id(one))
        for part in one.composed_of():
            visit(part)
        if not type(one).__module__.startswith("merge_rules."):
            found[id(one)] = one

    visit(rule)
    return [*found.values()]


def _try(rule: Watched) -> None:
    names_itself(rule)
    values = pool_of_values(rule)[:VALUES]
    states = _states(rule, values)
    for a, b, c in product(states, repeat=3):
        _hold(rule, laws.joining, a, b, c)
    for base, one, two in product(states, values, values):
        _hold(rule, laws.writing, base, Write(one, STAMPS[0]), Write(two, STAMPS[0]))
    for state in states:
        _hold(rule, laws.writing_back, state, LATER)
        _hold(rule, laws.storing, state)
        _hold(rule, laws.folding, state, 2, ("a",))
        _hold(rule, laws.changing_rules, state, LATER)
    for value, stamp in product(values, STAMPS):
        _hold(rule, laws.adopting, value, stamp)
    for one, two in product(values, repeat=2):
        _hold(rule, _two_devices, one, two)


def _two_devices(rule: Watched, one: object, two: object) -> None:
    """Two devices write at once, one of them sees both writes, and each writes again."""
    world = World(rule)
    for device, value in (("a", one), ("b", two), ("a", two), ("b", one)):
        world.put(device, value, (1, 0, device))
        world.verify()
        if device == "b":
            world.pull("a")


def _hold(rule: Watched, law: Callable[..., None], *example: object) -> None:
    rule.begin()
    with rule.limited():
        law(rule, *example)


def names_itself(rule: Watched) -> None:
    """Refusals and stored states name the rule."""
    rule.begin()
    text = rule.call("describe", lambda _: rule.rule.describe(), None)
    named = isinstance(text, str) and isinstance(rule.rule.name, str)
    rule.expect(RAISES, named, "the rule has no `name`")


def pool_of_values(rule: Watched) -> list[object]:
    rule.begin()
    values: list[object] = rule.call("check", lambda _: example_values(rule.rule), None)
    rule.expect(
        EXAMPLES,
        bool(values),
        "its `check` refuses every value of the pool",
        "give it some in its method `example_values`",
    )
    return values


def _states(rule: Watched, values: list[object]) -> list[Made]:
    """Different states that writes lead to, and those that the rule names itself."""
    own = rule.call("example_states", lambda _: [*rule.rule.example_states()], None)
    made = [Made(rule.bottom, "the empty state"), *(Made(state) for state in own)]
    different: dict[bytes, Made] = {}
    for one in [*made, *_written(rule, values)]:
        different.setdefault(exact(one.state), one)
    return [*islice(different.values(), len(own) + STATES)]


def _written(rule: Watched, values: list[object]) -> Iterator[Made]:
    """First each value at each stamp, then a second write on some of them."""
    firsts = [Write(value, stamp) for value, stamp in product(values[:3], STAMPS)]
    seconds = [Write(value, (1, 1, "b")) for value in values]
    for first in firsts:
        try:
            state = rule.advance(rule.bottom, *first)
            yield Made(state, first.told())
        except Refusal:
            continue
    for first, second in zip(firsts, seconds, strict=False):
        try:
            state = rule.advance(rule.advance(rule.bottom, *first), *second)
            yield Made(state, f"{first.told()}, then {second.told()}")
        except Refusal:
            continue
