"""The laws of every rule, each shown on one example.

A function here takes a rule and an example and raises Violation if a law does not hold. The
examples come from a small pool (`trial`) or from Hypothesis (`merge_rules.testing`).
"""

from collections.abc import Collection
from typing import Any

from merge_rules.adoption import adopt_state
from merge_rules.canonical import encode as canonical
from merge_rules.refusal import Refusal
from merge_rules.register import Strict, last_write_wins
from merge_rules.rule import ABSENT, State
from merge_rules.stamp import Stamp
from merge_rules.verification.exact import same
from merge_rules.verification.promises import keeps_promise, promised
from merge_rules.verification.story import Law, Made, Write, shown, when
from merge_rules.verification.watched import Watched

COMMUTATIVE = Law("commutative", "A joined with B is B joined with A")
ASSOCIATIVE = Law("associative", "three states may be joined in any grouping")
IDEMPOTENT = Law("idempotent", "joining a state with itself changes nothing")
BOTTOM = Law("bottom", "joining with the empty state changes nothing")
INFLATIONARY = Law("inflationary", "a write keeps all that its base held")
DELTA = Law("delta", "what a write changed, applied to its base, is the write")
NO_CHANGE = Law("no change", "writing back what is there makes no new state")
OWN_WRITE = Law("own write", "a device sees what it wrote, as the rule promises")
SUPERSEDES = Law("supersedes", "a device's second write takes the place of its first")
STORED = Law("stored form", "a stored state comes back, as the same bytes")
VALUE_COLUMN = Law("value column", "what is stored beside the sidecar is the plain value")
FOLDS = Law("folding", "a folded state shows the same value, and folds no further")
ADOPTS = Law("adoption", "an imported value looks as it did, and merges like any other")


def joining(rule: Watched, a: Made, b: Made, c: Made) -> None:
    """The states form a semilattice."""
    rule.about(A=a)
    rule.agree(IDEMPOTENT, ("A joined with A", rule.join(a.state, a.state)), ("A", a.state))
    left, right = rule.join(rule.bottom, a.state), rule.join(a.state, rule.bottom)
    rule.agree(BOTTOM, ("A joined with the empty state", right), ("A", a.state))
    rule.agree(BOTTOM, ("the empty state joined with A", left), ("A", a.state))
    rule.about(A=a, B=b)
    both = rule.join(a.state, b.state)
    swapped = rule.join(b.state, a.state)
    rule.agree(COMMUTATIVE, ("A joined with B", both), ("B joined with A", swapped))
    rule.about(A=a, B=b, C=c)
    rule.agree(
        ASSOCIATIVE,
        ("A and B joined, then with C", rule.join(both, c.state)),
        ("A joined with B and C", rule.join(a.state, rule.join(b.state, c.state))),
    )


def writing(rule: Watched, base: Made, one: Write, two: Write) -> None:
    """A device writes on what it saw, and writes again; a refused write is none."""
    try:
        rule.about(A=base)
        first = rule.advance(base.state, *one)
        delta = rule.delta(base.state, *one)
        rule.about(f"{one.told()}, having seen A", A=base)
        rule.agree(
            DELTA, ("A with the change", rule.apply(base.state, delta)), ("the write", first)
        )
        if not isinstance(rule.rule, Strict):
            joined = rule.join(base.state, first)
            rule.agree(INFLATIONARY, ("A joined with the write", joined), ("the write", first))
        sees_own_write(rule, base.state, one, first)
        after = Made(first, f"{one.told()}, having seen A")
        rule.about(f"then {two.told()}, having seen B", A=base, B=after)
        second = rule.advance(first, *two)
    except Refusal:
        return
    if not isinstance(rule.rule, Strict):
        joined = rule.join(first, second)
        rule.agree(SUPERSEDES, ("B joined with the second write", joined), ("that write", second))
    sees_own_write(rule, first, two, second)


def sees_own_write(rule: Watched, base: State, write: Write, after: State) -> None:
    before, seen = rule.value(base), rule.value(after)
    wanted = promised(rule.rule, before, write.value, seen)
    rule.expect(
        OWN_WRITE,
        same(seen, wanted),
        f"it saw {shown(before)} and wrote {shown(write.value)}",
        f"now it sees {shown(seen)} and should see {shown(wanted)}",
        "(if the rule means that, say so in its method `promise`)",
    )


def writing_back(rule: Watched, base: Made, stamp: Stamp) -> None:
    """A device that sends back what it saw is no editor of it."""
    rule.about(A=base)
    value = rule.value(base.state)
    if value is ABSENT:
        return
    rule.about(f"device {stamp[2]} wrote back the value of A at {when(stamp)}", A=base)
    try:
        delta = rule.delta(base.state, value, stamp)
        advanced = rule.advance(base.state, value, stamp)
    except Refusal as refusal:
        rule.expect(NO_CHANGE, False, f"the rule refused: {refusal}")
        return
    rule.agree(NO_CHANGE, ("what it changed", delta), ("no change", rule.bottom))
    rule.agree(NO_CHANGE, ("A after the write", advanced), ("A", base.state))


def storing(rule: Watched, made: Made) -> None:
    """States survive a restart, and equal states are equal bytes."""
    rule.about(A=made)
    value = rule.value(made.state)
    stored = rule.encode(made.state)
    column = None if value is ABSENT else canonical(value)
    rule.expect(VALUE_COLUMN, stored.value == column, f"stored is {stored.value!r}")
    back = rule.decode(stored)
    rule.agree(STORED, ("A stored and loaded", back), ("A", made.state))
    rule.expect(STORED, rule.encode(back) == stored, "stored again, it is other bytes")
    rule.expect(
        STORED,
        rule.encode(_reversed(made.state)) == stored,
        "with its keys in another order, it is stored as other bytes",
    )


def _reversed(thing: Any) -> Any:
    """The same state with every dictionary filled in the opposite order."""
    if isinstance(thing, dict):
        return {key: _reversed(thing[key]) for key in reversed(thing)}
    return tuple(map(_reversed, thing)) if isinstance(thing, tuple) else thing


def adopting(rule: Watched, value: Any, stamp: Stamp) -> None:
    """A value without a state (imported, or of another rule) is taken over as it is."""
    rule.about(f"the value {shown(value)} was adopted at {when(stamp)}")
    try:
        state = rule.adopt(value, stamp)
    except Refusal:
        return
    seen = rule.value(state)
    wanted = promised(rule.rule, ABSENT, value, seen)
    text = f"it became {shown(seen)} and should be {shown(wanted)}"
    rule.expect(ADOPTS, same(seen, wanted), text)
    rule.agree(
        ADOPTS,
        ("joined with the empty state", rule.join(rule.bottom, state)),
        ("it", state),
    )
    stamps = rule.stamps(state)
    rule.expect(ADOPTS, all(held == stamp for held in stamps), f"its stamps are {stamps}")


# --- states that grow old ----------------------------------------------------------------------


def folding(rule: Watched, made: Made, before_ms: int, alive: Collection[str]) -> None:
    """Forgetting what nobody needs any more changes no value, and folds once."""
    rule.about(A=made)
    folded = rule.fold(made.state, before_ms, alive)
    rule.about(
        f"A was folded to time {before_ms}; alive: {', '.join(alive) or 'no device'}", A=made
    )
    seen, wanted = rule.value(folded), rule.value(made.state)
    text = f"it shows {shown(seen)} and should show {shown(wanted)}"
    rule.expect(FOLDS, same(seen, wanted), text)
    again = rule.fold(folded, before_ms, alive)
    rule.agree(FOLDS, ("folded again, it", again), ("folded once, it", folded))


def changing_rules(rule: Watched, made: Made, at: Stamp) -> None:
    """A document may change to another rule and back, and keeps its value."""
    rule.about(A=made)
    value = rule.value(made.state)
    if value is ABSENT or isinstance(rule.rule, Strict):
        return
    rule.about("the rule of the document became last_write_wins, and then this one again", A=made)
    try:
        plain = adopt_state(rule.rule, made.state, last_write_wins, at)
        back = rule.call(
            "adopt", lambda held: adopt_state(last_write_wins, held, rule.rule, at), plain
        )
    except Refusal as refusal:
        raise rule.violation(ADOPTS, f"the rule refused the value it showed: {refusal}") from None
    kept, seen = last_write_wins.value(plain), rule.value(back)
    rule.expect(ADOPTS, same(kept, value), f"first it was {shown(kept)}")
    rule.expect(ADOPTS, keeps_promise(rule.rule, ABSENT, value, seen), f"it became {shown(seen)}")
