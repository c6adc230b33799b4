"""Every law catches a rule that breaks it: a check that nothing fails proves nothing."""

import random
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st

from merge_rules import (
    ABSENT,
    Operation,
    Rule,
    State,
    WrongType,
    counter,
    days,
    flag,
    map_of,
    maximum,
    record,
    resettable,
)
from merge_rules.collection import CausalSet, MapOf, Union
from merge_rules.counter import Counter
from merge_rules.refusal import Path
from merge_rules.register import LastWriteWins
from merge_rules.scalar import Flag, Maximum
from merge_rules.sidecar import Packed, Sidecar
from merge_rules.stamp import Stamp, successor
from merge_rules.testing import Counterexample, Holds, check_laws
from merge_rules.verification.trial import own_parts, try_rule


class Longest(Rule):
    """A lawful rule of an app's own: the longest text, and of two as long the greater."""

    name = "longest"

    def check(self, value: Any, path: Path = ()) -> None:
        if not isinstance(value, str):
            raise WrongType(path, "longest takes a text")

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return value if self.join(base, value) != base else None

    def join(self, a: State, b: State) -> State:
        texts = [text for text in (a, b) if text is not None]
        return max(texts, key=lambda text: (len(text), text)) if texts else None

    def value(self, state: State) -> Any:
        return ABSENT if state is None else state

    def promise(self, before: Any, written: Any) -> Any:
        return written if before is ABSENT else self.join(before, written)


class Examples(Longest):
    def example_values(self) -> list[Any]:
        return ["", "b", "a", "aa"]


# --- rules that are wrong ---------------------------------------------------------------------


class FirstOfATie(LastWriteWins):
    """The tie-break forgotten: no history of one server ever has two writes with one stamp."""

    def join(self, a: State, b: State) -> State:
        if a is None or b is None:
            return a or b
        return a if a[0] >= b[0] else b


class Halfway(Examples):
    """Joins by a rounded mean of lengths."""

    def join(self, a: State, b: State) -> State:
        if a is None or b is None:
            return a if b is None else b
        return a if a == b else "x" * ((len(a) + len(b)) // 2)


class Doubling(Counter):
    def join(self, a: State, b: State) -> State:
        return {d: (1, a.get(d, (0, 0))[1] + b.get(d, (0, 0))[1]) for d in {**a, **b}}


class NotNeutral(Maximum):
    def join(self, a: State, b: State) -> State:
        return None if a is None or b is None else super().join(a, b)


class Forgetful(LastWriteWins):
    """A write replaces the base by a fresh state with its own stamp, however old."""

    def advance(self, base: State, value: Any, stamp: Stamp) -> State:
        return (stamp, value)


class HalfADelta(Union):
    """The delta lacks what the write as a whole has."""

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return super().delta(base, value, stamp)[:1]

    def advance(self, base: State, value: Any, stamp: Stamp) -> State:
        return self.join(base, super().delta(base, value, stamp))


class Restamping(LastWriteWins):
    """Every write is an edit, of what did not change as well."""

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        changed = (stamp,) if value is ABSENT else (stamp, value)
        return changed if base is None else (max(stamp, successor(base[0], "")), *changed[1:])


class Deaf(Examples):
    """A device that wrote sees something else."""

    def value(self, state: State) -> Any:
        return ABSENT if state is None else state[:1]

    def promise(self, before: Any, written: Any) -> Any:
        return written


class SlowClock(LastWriteWins):
    """Edits keep the device's own time, so that a slow clock loses what it saw."""

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        changed = super().delta(base, value, stamp)
        return None if changed is None else (stamp, *changed[1:])


def mutating() -> Rule:
    """Each has a class, and so a bottom, of its own: it spoils what it is given."""

    class Mutating(Union):
        bottom: ClassVar[State] = []

        def join(self, a: State, b: State) -> State:
            a.extend(item for item in b if item not in a)
            return a

    return Mutating()


class Sorting(CausalSet):
    """Changes the device's own value while it looks at it."""

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        value.reverse()
        return super().delta(base, value, stamp)


class Dice(Maximum):
    def join(self, a: State, b: State) -> State:
        return random.choice([a, b])


class Counting(LastWriteWins):
    """Keeps a state of its own beside the states."""

    def __init__(self) -> None:
        self.calls = count()

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        changed = super().delta(base, value, stamp)
        return None if changed is None else ((stamp[0], next(self.calls), stamp[2]), value)


class LosesTheStamp(LastWriteWins):
    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        return None

    def stamps(self, state: State) -> Iterator[Stamp]:
        return iter(())

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        return None if value is ABSENT else ((0, 0, ""), value)


class OrderOfKeys(Counter):
    def pack(self, state: State, value: Any, sidecar: Sidecar) -> Packed:
        return [part for device in state for part in (device, *state[device])] or None

    def unpack(self, value: Any, packed: Packed, sidecar: Sidecar) -> State:
        parts = packed or []
        return {parts[i]: (parts[i + 1], parts[i + 2]) for i in range(0, len(parts), 3)}


class Impostor(Examples):
    """What it adopts is not what there was."""

    def adopt(self, value: Any, stamp: Stamp) -> State:
        return value + "!"


class FoldsTheValueAway(LastWriteWins):
    def fold(self, state: State, before_ms: int, alive: Any) -> State:
        return None if state is None or state[0][0] < before_ms else state


class OneForAll(Counter):
    """All devices share one entry: lawful, and still an increment is lost."""

    def _add(self, base: State, amount: int, device: str, path: Path) -> State:
        return super()._add(base, amount, "all", path)


class LastFlag(Flag):
    """A constant is a lawful join."""

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return False

    def join(self, a: State, b: State) -> State:
        return False

    def value(self, state: State) -> Any:
        return False


class Constant(Rule):
    name = "constant"

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return None

    def join(self, a: State, b: State) -> State:
        return None

    def value(self, state: State) -> Any:
        return "always this"


class BreaksAfterAPatch(Maximum):
    """Right for writes, and wrong for what an operation makes."""

    def operate(self, state: State, operation: Operation, path: Path, stamp: Stamp) -> State:
        return 99 if operation.op == "increment" else super().operate(state, operation, path, stamp)

    def join(self, a: State, b: State) -> State:
        return 100 if a == b == 99 else super().join(a, b)


class Raising(Maximum):
    def join(self, a: State, b: State) -> State:
        return super().join(a, b) if a != b or a is None else 1 // 0


class Leaving(Maximum):
    def value(self, state: State) -> Any:
        raise SystemExit(3)


class Refusing(Examples):
    def join(self, a: State, b: State) -> State:
        raise WrongType((), "not these two")


class Endless(Maximum):
    def join(self, a: State, b: State) -> State:
        while a is not None and b is not None and a != b:
            pass
        return super().join(a, b)


class Holding(Maximum):
    """Loops and swallows what would stop it."""

    def join(self, a: State, b: State) -> State:
        while a is not None and b is not None and a != b:
            try:
                while True:
                    pass
            except Exception:
                pass
        return super().join(a, b)


class Recursing(Maximum):
    def value(self, state: State) -> Any:
        return self.value(state)


class NotANumber(Maximum):
    def value(self, state: State) -> Any:
        return ABSENT if state is None else float("nan")


class Objects(Maximum):
    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return object()


class Sets(Examples):
    def value(self, state: State) -> Any:
        return ABSENT if state is None else {*state}


class NumberedKeys(Examples):
    def value(self, state: State) -> Any:
        return ABSENT if state is None else {1: state}


class Fussy(Rule):
    """Takes nothing, and gives no example of what it takes."""

    name = "fussy"

    def check(self, value: Any, path: Path = ()) -> None:
        raise WrongType(path, "not this")


class Nameless(Rule):
    pass


class Bare(Rule):
    name = "bare"


BROKEN: dict[str, tuple[Callable[[], Rule], set[str]]] = {
    "tie-break": (FirstOfATie, {"commutative"}),
    "mean": (Halfway, {"associative", "inflationary", "supersedes"}),
    "doubling": (Doubling, {"idempotent"}),
    "not neutral": (NotNeutral, {"bottom", "own write"}),
    "forgetful": (Forgetful, {"delta", "inflationary", "supersedes"}),
    "half a delta": (HalfADelta, {"delta"}),
    "restamping": (Restamping, {"no change"}),
    "deaf": (Deaf, {"own write"}),
    "slow clock": (SlowClock, {"own write", "inflationary", "supersedes"}),
    "mutating": (mutating, {"pure"}),
    "sorting": (Sorting, {"pure"}),
    "dice": (Dice, {"deterministic", "bottom", "idempotent", "commutative"}),
    "counting": (Counting, {"deterministic"}),
    "loses the stamp": (LosesTheStamp, {"stored form"}),
    "order of keys": (OrderOfKeys, {"stored form"}),
    "impostor": (Impostor, {"adoption"}),
    "folds the value away": (FoldsTheValueAway, {"folding"}),
    "one for all": (OneForAll, {"intentions"}),
    "constant": (Constant, {"own write"}),
    "constant flag": (LastFlag, {"idempotent", "own write"}),
    "raising": (Raising, {"raises"}),
    "leaving": (Leaving, {"raises"}),
    "refusing": (Refusing, {"raises"}),
    "recursing": (Recursing, {"raises"}),
    "endless": (Endless, {"comes back"}),
    "holding": (Holding, {"comes back"}),
    "not a number": (NotANumber, {"plain results"}),
    "objects": (Objects, {"plain results"}),
    "sets": (Sets, {"plain results"}),
    "numbered keys": (NumberedKeys, {"plain results"}),
    "fussy": (Fussy, {"examples"}),
    "nameless": (Nameless, {"raises"}),
    "bare": (Bare, {"raises"}),
}


def patience_for(laws: set[str]) -> float:
    """Little where waiting is the point; elsewhere a slow machine must not look like a loop."""
    return 0.1 if "comes back" in laws else 10.0


@pytest.mark.parametrize("name", BROKEN)
def test_generated_examples_find_what_is_wrong(name: str) -> None:
    """The law that a rule breaks is named, with an example that a person can follow."""
    make, laws = BROKEN[name]
    found = check_laws(make(), 100, patience_s=patience_for(laws))
    assert isinstance(found, Counterexample), f"{name} passed"
    assert found.law in laws, found
    assert 0 < found.story.count("\n") < 12 or len(found.story) < 200


@pytest.mark.parametrize("name", BROKEN)
def test_the_trial_at_registration_finds_it_too(name: str) -> None:
    """A rule that would lose data must not serve because nobody ran the long check."""
    make, laws = BROKEN[name]
    found = try_rule(make(), patience_s=patience_for(laws))
    assert found is not None, f"{name} passed"
    assert found.law in laws, found


@pytest.mark.parametrize("wrap", ["record", "map", "removable map", "resettable"])
def test_a_wrong_rule_is_found_inside_others(wrap: str) -> None:
    """Apps compose; the field that is wrong must not hide behind those that are right."""
    inner = FirstOfATie()
    rule: Rule = {
        "record": record({"theme": inner, "score": maximum}),
        "map": map_of(inner),
        "removable map": map_of(record({}, default=inner), removable=True),
        "resettable": resettable(inner),
    }[wrap]
    found = check_laws(rule, 300)
    assert isinstance(found, Counterexample)
    assert found.law == "commutative"
    trial = try_rule(rule)
    assert trial is not None
    assert trial.law == "commutative"


OWN: dict[str, Rule] = {
    "longest": Longest(),
    "longest with examples": Examples(),
    "in a record": record({"motto": Longest(), "count": counter}),
    "in a removable map": map_of(Examples(), removable=True),
    "untouched subclass": type("Mine", (LastWriteWins,), {})(),
}


@pytest.mark.parametrize("name", OWN)
def test_a_lawful_rule_of_an_app_passes(name: str) -> None:
    """A check that cries wolf is switched off; examples and a promise are all it asks for."""
    found = check_laws(OWN[name], 40)
    assert found, found
    assert try_rule(OWN[name]) is None


def test_strategies_may_be_given() -> None:
    """An author who knows Hypothesis can look where the pools do not."""
    texts = st.text("ab", max_size=3)
    assert check_laws(Longest(), 30, values=texts, states=st.none() | texts)
    found = check_laws(Halfway(), 100, values=texts)
    assert isinstance(found, Counterexample)


def test_the_story_of_a_tie() -> None:
    """Who wrote what, when, and what either order of joining gives: nothing else is needed."""
    found = check_laws(FirstOfATie(), 100)
    assert re.sub(r"time \d|\[\[\d", lambda match: match[0][:-1] + "0", str(found)) == (
        "last_write_wins breaks the law `commutative`: A joined with B is B joined with A\n"
        '  A: device a wrote null at time 0; value null, state [[0,0,"a"],null]\n'
        '  B: device a wrote false at time 0; value false, state [[0,0,"a"],false]\n'
        '  A joined with B gives value null, state [[0,0,"a"],null]\n'
        '  B joined with A gives value false, state [[0,0,"a"],false]'
    )


def test_the_story_of_a_lost_increment() -> None:
    """Where laws hold and the outcome is wrong, the story is what the users did."""
    found = check_laws(OneForAll(), 100)
    assert isinstance(found, Counterexample)
    assert found.story.splitlines() == [
        "at first there is no document",
        "device a wrote -2 at time 0, having seen none",
        "device b wrote -2 at time 0, having seen none",
        "the document is -2, not -4, the sum of all changes",
    ]


def test_the_examples_are_counted_and_told() -> None:
    """A progress bar needs both numbers, and "holds" means nothing without how often."""
    heard: list[tuple[int, int]] = []
    held = check_laws(flag, 20, on_progress=lambda done, total: heard.append((done, total)))
    assert isinstance(held, Holds)
    assert heard == [(done, held.examples) for done in range(1, held.examples + 1)]
    assert held.examples > 20


def test_the_same_examples_are_tried_unless_a_seed_is_given() -> None:
    """A check in CI that fails must fail again on the developer's machine."""
    stories = {str(check_laws(Doubling(), 50)) for _ in range(2)}
    assert len(stories) == 1
    assert not check_laws(Doubling(), 50, seed=7)


def test_a_history_is_told_where_states_come_from_one() -> None:
    """A state alone does not say how devices got there."""
    found = check_laws(BreaksAfterAPatch(), 200)
    assert isinstance(found, Counterexample)
    assert "sent increment" in found.story, found


def test_built_in_compositions_are_not_tried() -> None:
    """They went through the laws in this package's own tests, and a start must not pay again."""
    assert own_parts(record({"a": map_of(counter), "b": resettable(days)})) == []
    inner, outer = FirstOfATie(), type("Outer", (MapOf,), {})(FirstOfATie())
    assert own_parts(record({"a": map_of(inner), "b": inner})) == [inner]
    assert own_parts(outer) == [outer.rule, outer]


def test_without_an_alarm_rules_are_still_checked() -> None:
    """Threads have no alarm; everything but a loop must be found in them as well."""
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(check_laws, Raising(), 50).result()
    assert isinstance(found, Counterexample)
    assert found.law == "raises"


def test_an_alarm_of_the_caller_survives() -> None:
    """A test runner's own time-out must still come after the check."""
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        assert check_laws(flag, 5)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
        signal.raise_signal(signal.SIGALRM)
        assert rang == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
