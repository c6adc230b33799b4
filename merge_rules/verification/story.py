"""Counterexamples in words that a person understands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from merge_rules.rule import ABSENT, State
from merge_rules.stamp import Stamp
from merge_rules.verification.exact import exact, is_plain

LONGEST = 300


class Law(NamedTuple):
    """Something that must be true of every rule."""

    name: str
    meaning: str


class Violation(Exception):
    """A law that a rule breaks, and the example that shows it, line by line."""

    def __init__(self, law: Law, lines: Sequence[str]) -> None:
        super().__init__(law.name)
        self.law = law
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Counterexample:
    """A law that a rule breaks: `law` names it, `story` is the example that shows it."""

    rule: str
    law: str
    meaning: str
    story: str

    @classmethod
    def of(cls, rule: str, violation: Violation) -> "Counterexample":
        return cls(rule, violation.law.name, violation.law.meaning, "\n".join(violation.lines))

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        indented = "\n".join(f"  {line}" for line in self.story.splitlines())
        return f"{self.rule} breaks the law `{self.law}`: {self.meaning}\n{indented}"


@dataclass(frozen=True)
class Made:
    """A state, and in words how it came to be."""

    state: State
    how: str = "a state as it may be stored"


class Write(NamedTuple):
    """A device's write: its stamp names the device."""

    value: Any
    stamp: Stamp

    def told(self) -> str:
        return f"device {self.stamp[2]} wrote {shown(self.value)} at {when(self.stamp)}"


def when(stamp: Stamp) -> str:
    return f"time {stamp[0]}" + (f".{stamp[1]}" if stamp[1] else "")


def shown(thing: Any) -> str:
    """A state or value as JSON; what is none of both as Python shows it."""
    if thing is ABSENT:
        return "nothing"
    try:
        text = exact(thing).decode() if is_plain(thing) else repr(thing)
    except Exception:  # rubbish of an app's rule may refuse to be shown
        text = f"a {type(thing).__name__}"
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
