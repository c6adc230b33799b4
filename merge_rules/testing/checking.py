"""Looks for an example that breaks a law, and shrinks it until a person can read it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seed_with
from hypothesis import strategies as st
from hypothesis.errors import Flaky, HypothesisException, HypothesisWarning
from hypothesis.strategies import SearchStrategy

from merge_rules.register import Strict
from merge_rules.rule import Rule
from merge_rules.testing.generators import (
    devices,
    stamp_of,
    stamps,
    states_of,
    values_of,
    written_states_of,
)
from merge_rules.testing.histories import histories, worlds
from merge_rules.verification import laws
from merge_rules.verification.story import Counterexample, Made, Violation, Write
from merge_rules.verification.trial import names_itself, own_parts, pool_of_values, try_rule
from merge_rules.verification.watched import COMES_BACK, PATIENCE_S, RAISES, Watched

DEFAULT_EXAMPLES = 500
SHRINKING_PATIENCE_S = 0.2
STUCK_LIMIT = 10

OnProgress = Callable[[int, int], None]
"""Called with how many examples were tried, of how many."""


@dataclass(frozen=True)
class Holds:
    """No law was broken in so many examples."""

    examples: int

    def __bool__(self) -> bool:
        return True


Result = Holds | Counterexample


def check_laws(
    rule: Rule,
    examples: int = DEFAULT_EXAMPLES,
    *,
    values: SearchStrategy[Any] | None = None,
    states: SearchStrategy[Any] | None = None,
    seed: int | None = None,
    patience_s: float = PATIENCE_S,
    on_progress: OnProgress | None = None,
) -> Result:
    """Whether the rule keeps every law, on so many examples of each kind.

    An app's own rules inside a composition are checked by themselves first, and what the trial
    at registration would refuse does not hold here either.

    The kinds are: writes that collide, any states, a device's writes, states that are stored
    and grow old, states that histories reach, and histories whose outcome is held against
    what the users meant. Values and states come from the rule (`example_values`,
    `example_states`) or from the strategies given. Without a seed each run tries the same
    examples. A call that takes longer than `patience_s` breaks a law too, if this is the main
    thread.
    """
    parts = [part for part in own_parts(rule) if part is not rule and values is None]
    search = _Search(examples, seed, on_progress)
    for part in [*parts, rule]:
        watched = Watched(part, patience_s)
        try:
            search.check(watched, lambda one: _kinds(one, values, states), len(parts) + 1)
        except Violation as violation:
            return Counterexample.of(watched.describe(), violation)
    return try_rule(rule, patience_s) or Holds(search.tried)


class _Kind(NamedTuple):
    """Examples, and what must hold of each."""

    examples: SearchStrategy[Any]
    law: Callable[[Any], None]


def _kinds(
    rule: Watched, values: SearchStrategy[Any] | None, states: SearchStrategy[Any] | None
) -> list[_Kind]:
    names_itself(rule)
    if values is None:
        pool_of_values(rule)
    written = values_of(rule.rule) if values is None else values
    once = written_states_of(rule, written, most=1)
    made: SearchStrategy[Made] = written_states_of(rule, written)
    if states is not None:
        made |= states.map(Made)
    elif values is None:
        made |= states_of(rule.rule).map(Made)
    kinds = [
        # Single writes make the best story; what they do not show is found in any states.
        _Kind(st.tuples(once, once, once), lambda case: laws.joining(rule, *case)),
        _Kind(st.tuples(made, made, made), lambda case: laws.joining(rule, *case)),
        _Kind(
            st.tuples(made, _two_writes(written)),
            lambda case: _write(rule, *case),
        ),
        _Kind(
            st.tuples(made, written, stamps(), st.integers(0, 4), st.sets(devices)),
            lambda case: _age(rule, *case),
        ),
    ]
    if not isinstance(rule.rule, Strict):
        kinds.append(_Kind(_reachable(rule, written), lambda case: _history(rule, *case)))
        kinds.append(_Kind(worlds(rule, values=written), lambda world: None))
    return kinds


@st.composite
def _two_writes(draw: st.DrawFn, values: SearchStrategy[Any]) -> tuple[Write, Write]:
    device = draw(devices)
    one = Write(draw(values), stamp_of(draw, device))
    return one, Write(draw(values), stamp_of(draw, device))


def _write(rule: Watched, base: Made, writes: tuple[Write, Write]) -> None:
    laws.writing(rule, base, *writes)
    laws.writing_back(rule, base, writes[0].stamp)


def _age(
    rule: Watched, made: Made, value: Any, stamp: Any, before_ms: int, alive: set[str]
) -> None:
    laws.storing(rule, made)
    laws.adopting(rule, value, stamp)
    laws.folding(rule, made, before_ms, sorted(alive))
    laws.changing_rules(rule, made, stamp)


@st.composite
def _reachable(draw: st.DrawFn, rule: Watched, values: Any) -> tuple[list[Made], list[int]]:
    """Four states of one history, and an order to join them in."""
    history = draw(histories(rule, values=values))
    chosen = draw(st.lists(st.sampled_from(history.states), min_size=4, max_size=4))
    made = [Made(state, "a state that devices brought about") for state in chosen]
    return made, draw(st.permutations(range(4)))


def _history(rule: Watched, made: list[Made], order: list[int]) -> None:
    laws.joining(rule, *made[:3])
    laws.storing(rule, made[3])
    forward = shuffled = rule.bottom
    for index, place in enumerate(order):
        forward = rule.join(forward, made[index].state)
        shuffled = rule.join(made[place].state, shuffled)
    rule.about(A=made[0], B=made[1], C=made[2], D=made[3])
    names = ", ".join("ABCD"[place] for place in order)
    rule.agree(laws.ASSOCIATIVE, ("A, B, C, D in turn", forward), (names, shuffled))


class _Stuck(BaseException):
    """Enough of a rule that does not come back: no more shrinking."""


@dataclass
class _Search:
    """Runs kinds of examples, and counts them."""

    examples: int
    seed: int | None
    on_progress: OnProgress | None
    tried: int = 0
    planned: int = 0

    def check(self, rule: Watched, kinds_of: Callable[[Watched], list[_Kind]], rules: int) -> None:
        """All kinds of examples of one rule of several; raises the smallest Violation found."""
        kinds = kinds_of(rule)
        self.planned = max(self.planned, self.examples * len(kinds) * rules)
        for kind in kinds:
            self._run(rule, kind)

    def _run(self, rule: Watched, kind: _Kind) -> None:
        found: list[Violation] = []

        @self._with_settings
        @given(st.data())
        def attempt(data: st.DataObject) -> None:
            try:
                self._try(rule, kind, data, found)
            except Violation as violation:
                # Shrinking must stay with the law that it began with.
                if found and violation.law != found[0].law:
                    return
                found.append(violation)
                self._bound(rule, found)
                raise

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HypothesisWarning)  # they are about our tests
                attempt()
        except (_Stuck, Flaky):
            raise min(found, key=lambda one: len("".join(one.lines))) from None

    def _try(self, rule: Watched, kind: _Kind, data: st.DataObject, found: list[Violation]) -> None:
        rule.begin()
        try:
            case = data.draw(kind.examples)
            with rule.limited():
                kind.law(case)
        except (Violation, HypothesisException):
            raise
        except Exception as error:  # an app's rule may fail in a place that nobody foresaw
            raise Violation(RAISES, [f"the check met {type(error).__name__}: {error}"]) from error
        if not found:
            self.tried += 1
            if self.on_progress is not None:
                self.on_progress(self.tried, self.planned)

    def _bound(self, rule: Watched, found: list[Violation]) -> None:
        """A rule that does not come back costs its whole limit in each step of shrinking."""
        if found[-1].law == COMES_BACK:
            rule.patience_s = min(rule.patience_s, SHRINKING_PATIENCE_S)
            if len(found) > STUCK_LIMIT:
                raise _Stuck

    def _with_settings(self, test: Callable[[], None]) -> Callable[[], None]:
        configured = settings(
            max_examples=self.examples,
            database=None,
            deadline=None,
            derandomize=self.seed is None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            print_blob=False,
            # Health checks judge generators. What is judged here is the rule, and the answer
            # says how many examples it was judged by.
            suppress_health_check=[*HealthCheck],
        )(test)
        return configured if self.seed is None else seed_with(self.seed)(configured)
