"""A rule under examination: whatever it does wrong in a call becomes a story."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from merge_rules import state as stored_form
from merge_rules.canonical import check as check_canonical
from merge_rules.refusal import NotCanonical, Refusal
from merge_rules.rule import ABSENT, Operation, Rule, State
from merge_rules.stamp import Stamp
from merge_rules.state import Stored
from merge_rules.verification.exact import exact, is_plain, same
from merge_rules.verification.story import Law, Made, Violation, shown
from merge_rules.verification.time_limit import TimeUp, time_limit

RAISES = Law("raises", "on valid states and values a rule returns; it may refuse a write only")
COMES_BACK = Law("comes back", "a rule answers at once")
RUBBISH = Law("plain results", "states are plain JSON and tuples, values are canonical JSON")
PURE = Law("pure", "a rule never changes what it is given")
DETERMINISTIC = Law("deterministic", "the same arguments give the same result")

PATIENCE_S = 3.0
MAY_REFUSE = ("delta", "advance", "operate", "adopt")


class Watched:
    """The calls of a rule, each timed, made twice, and looked at for rubbish and mutation.

    A call raises Violation for what no rule may do, and Refusal where the rule refuses a write.
    """

    def __init__(self, rule: Rule, patience_s: float = PATIENCE_S) -> None:
        self.rule = rule
        self.patience_s = patience_s
        self.bottom = rule.bottom
        self._past: tuple[str, ...] = ()
        self._lines: tuple[str, ...] = ()
        self._states: dict[str, Made] = {}
        self._call: tuple[str, tuple[Any, ...]] = ("", ())
        self._limited = False

    # --- the example at hand -----------------------------------------------------------------

    def begin(self, *past: str) -> None:
        """Begins an example, with what happened before it."""
        self._past = past
        self.about()

    def about(self, *lines: str, **states: Made) -> None:
        """What a law is shown on: the states by name, and what happens to them."""
        self._lines, self._states, self._call = lines, states, ("", ())

    def expect(self, law: Law, holds: bool, *lines: str) -> None:
        if not holds:
            raise self.violation(law, *lines)

    def agree(self, law: Law, one: tuple[str, State], other: tuple[str, State]) -> None:
        """Two ways must lead to the same state."""
        if not same(one[1], other[1]):
            lines = (f"{name} gives {self.told(state)}" for name, state in (one, other))
            raise self.violation(law, *lines)

    def violation(self, law: Law, *lines: str) -> Violation:
        scene = (
            f"{name}: {made.how}; {self.told(made.state)}" for name, made in self._states.items()
        )
        return Violation(law, [*self._past, *scene, *self._lines, *lines])

    def told(self, state: State) -> str:
        """The value of a state, and the state where it says more."""
        try:
            with self.limited():
                value = self.rule.value(state)
        except (Exception, SystemExit, GeneratorExit):
            return f"state {shown(state)}"
        if value is ABSENT:
            return "no value" if same(state, self.bottom) else f"no value, state {shown(state)}"
        text = shown(value)
        return f"value {text}" + ("" if text == shown(state) else f", state {shown(state)}")

    # --- calls -------------------------------------------------------------------------------

    def join(self, a: State, b: State) -> State:
        return self._state("join", self.rule.join, a, b)

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return self._state("delta", self.rule.delta, base, value, stamp)

    def advance(self, base: State, value: Any, stamp: Stamp) -> State:
        return self._state("advance", self.rule.advance, base, value, stamp)

    def apply(self, state: State, delta: State) -> State:
        return self._state("apply", self.rule.apply, state, delta)

    def operate(self, state: State, operation: Operation, path: Any, stamp: Stamp) -> State:
        return self._state("operate", self.rule.operate, state, operation, path, stamp)

    def adopt(self, value: Any, stamp: Stamp) -> State:
        return self._state("adopt", self.rule.adopt, value, stamp)

    def fold(self, state: State, before_ms: int, alive: Collection[str]) -> State:
        return self._state("fold", self.rule.fold, state, before_ms, alive)

    def value(self, state: State) -> Any:
        value = self.call("value", self.rule.value, state)
        if value is not ABSENT:
            try:
                check_canonical(value)
                rubbish = not is_plain(value)
            except NotCanonical as error:
                raise self._wrong(RUBBISH, f"returned {shown(value)}: {error}") from error
            except RecursionError as error:
                raise self._wrong(RUBBISH, "returned a value without end") from error
            if rubbish:
                raise self._wrong(RUBBISH, f"returned {shown(value)}, which is not JSON")
        return value

    def stamps(self, state: State) -> list[Stamp]:
        return self.call("stamps", lambda held: list(self.rule.stamps(held)), state)  # type: ignore[no-any-return]

    def encode(self, state: State) -> Stored:
        return self.call("pack", lambda held: stored_form.encode(self.rule, held), state)  # type: ignore[no-any-return]

    def decode(self, stored: Stored) -> State:
        return self._state("unpack", lambda _: stored_form.decode(self.rule, stored), stored.value)

    def describe(self) -> str:
        """How the rule describes itself; never raises."""
        try:
            text = self.rule.describe()
        except Exception:
            text = None
        return text if isinstance(text, str) else type(self.rule).__name__

    def _state(self, name: str, function: Callable[..., Any], *arguments: Any) -> State:
        return self.call(name, function, *arguments)

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a call that did nothing which no rule may do."""
        self._call = (name, arguments)
        before = [_bytes(argument) for argument in arguments]
        with self.limited():
            try:
                result = function(*arguments)
                unchanged = [_bytes(argument) for argument in arguments] == before
                again = function(*arguments)
            except Refusal as refusal:
                if name in MAY_REFUSE:
                    raise
                raise self._wrong(RAISES, f"refused with: {refusal}") from refusal
            except (Exception, SystemExit, GeneratorExit) as error:
                text = f"raised {type(error).__name__}: {error}"
                raise self._wrong(RAISES, text) from error
        if not unchanged:
            raise self._wrong(PURE, f"changed an argument; they were {_listed(before)}")
        if name != "value" and not _is_state(result):
            raise self._wrong(RUBBISH, f"returned {shown(result)}, which is not a state")
        if _bytes(result) != _bytes(again):
            raise self._wrong(
                DETERMINISTIC, f"gave {shown(result)} and then, called again, {shown(again)}"
            )
        return result

    @contextmanager
    def limited(self) -> Iterator[None]:
        """A limit for all the calls inside; to reach it is a violation."""
        if self._limited:
            yield
            return
        self._limited = True
        try:
            with time_limit(self.patience_s):
                yield
        except TimeUp:
            text = f"did not come back within {self.patience_s:g} s"
            raise self._wrong(COMES_BACK, text) from None
        finally:
            self._limited = False

    def _wrong(self, law: Law, what: str) -> Violation:
        name, arguments = self._call
        names = {_bytes(made.state): name for name, made in reversed(self._states.items())}
        given = ", ".join(names.get(_bytes(one)) or shown(one) for one in arguments)
        return self.violation(law, f"{name}({given}) {what}")


def _listed(texts: list[bytes]) -> str:
    return ", ".join(text.decode() for text in texts)


def _is_state(thing: Any) -> bool:
    if isinstance(thing, Stored):
        return True
    try:
        return is_plain(thing)
    except RecursionError:
        return False


def _bytes(thing: Any) -> bytes:
    """What to compare a thing by, whatever it is."""
    try:
        return exact(thing)
    except Exception:
        return shown(thing).encode()
