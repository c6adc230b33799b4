"""Random requests, decided: a line of JSON for each, to be compared with another build's lines.

    python decisions.py SEED MUTATIONS

The first line says whether the code that ran is compiled.
"""

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from logging import CRITICAL
from random import Random
from typing import Any
from uuid import UUID

import structlog

from app.compiled import is_compiled
from app.documents.cache import Cache, Head
from app.documents.decide import decide
from app.documents.model import Decision, Horizon, Limits, Mutation, Snapshot
from app.documents.mutations import (
    Intake,
    delete_mutation,
    fold_mutation,
    restore_mutation,
)
from app.documents.types import DeleteQuery, PatchDocument, PutDocument, RestoreBody
from app.documents.workspace import Workspace
from app.errors import SynclineError
from app.requests import decode_body
from merge_rules import (
    ABSENT,
    Registry,
    Rule,
    Stamp,
    State,
    WrongType,
    best,
    causal_set,
    counter,
    days,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    resettable,
    samples,
    strict,
    union,
)
from merge_rules.canonical import encode
from merge_rules.counter import Counter
from merge_rules.refusal import Path


class Longest(Rule):
    """An app's own rule, plain Python in any build: the longest text, ties by its order."""

    name = "longest"
    bottom = ""
    takes = ("string",)
    shows = ("string",)

    def __init__(self, most: int) -> None:
        self.most = most
        self.inner = counter

    @cached_property
    def reason(self) -> str:
        return f"a text of at most {self.most} characters, please"

    def check(self, value: Any, path: Path = ()) -> None:
        if not isinstance(value, str) or len(value) > self.most:
            raise WrongType(path, self.reason)

    def delta(self, base: State, value: Any, stamp: Stamp) -> State:
        return value

    def join(self, a: State, b: State) -> State:
        return max(a, b, key=lambda text: (len(text), text))

    def value(self, state: State) -> Any:
        return state or ABSENT

    def promise(self, before: Any, written: Any) -> Any:
        return NotImplemented

    def describe(self) -> str:
        return f"longest({self.most})"


class Halved(Counter):
    """Another one, made from a rule of Syncline's: it fails on what it cannot halve."""

    name = "halved"

    def value(self, state: State) -> Any:
        return {0: 0, 2: 1, 4: 2, 6: 3, 8: 4, 14: 7}[super().value(state)]


ACCOUNT = "a"
HISTORY = 4
LIMITS = Limits(document_bytes=2_000, document_keys=40)
DEVICES = ("phone", "tablet", "watch", None)
DAYS = ("2027-12-31", "2028-01-01", "2028-02-29", "2028-03-01", "2028-02-30")
STATS = record({"score": maximum, "games": counter, "done": union, "best": map_of(maximum)})
SOME_STATS = {"score": 3, "games": 2, "done": ["a"], "best": {"ä": 1.5}, "note": None}
RULES: dict[str, tuple[Rule, Any]] = {
    "plain": (last_write_wins, {"on": [1, {"": "x"}], "x/y~z": 0.0}),
    "stats": (STATS, SOME_STATS),
    "themes": (
        record({"on": map_of(STATS, removable=True), "seen": flag}),
        {"on": {"a": SOME_STATS, "b": {"games": 1}}, "seen": False},
    ),
    "tags": (causal_set, ["a", 1, {"b": []}]),
    "round": (
        resettable(record({"low": minimum, "pace": samples(3, 0.5), "days": days})),
        {"low": 4, "pace": 2.5, "days": "2028-02-29", "ä": "b"},
    ),
    "top": (best("score"), {"score": 2, "by": "a"}),
    "locked": (strict, {"score": 1}),
    "own": (record({"title": Longest(3), "texts": map_of(Longest(2))}), {"title": "a"}),
    "fails": (Halved(), 1),
}
"""The rule of each key, and a value that it takes."""
KEYS = [f"{name}:{number}" for name in RULES for number in range(3)]
FIELDS = ("score", "games", "done", "best", "on", "seen", "low", "pace", "days", "ä", "x/y~z", "")
OPERATIONS = ("set", "unset", "increment", "maximum", "minimum", "add", "remove", "reset", "nope")
SCALARS: tuple[Any, ...] = (
    *(0, 1, -1, 7, 2**53 - 1, 2**53, 0.0, -0.0, 1.0, 1.5, -2.25, 1e300, True, False, None),
    *("", "a", "ä\u20ac", "\U0001f600", "\0", "\ud800", *DAYS),
)


def uuid4_of(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)


class Requests:
    """What devices might send, sensible or not; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.intake = Intake(max_keys=30, max_operations=3, max_bytes=2_000)
        self.sent: list[UUID] = []

    def value(self, levels: int = 3) -> Any:
        pick = self.random.choice
        match self.random.randrange(8 if levels else 4):
            case 0 | 1 | 2 | 3:
                return pick(SCALARS)
            case 4:
                return [self.value(levels - 1) for _ in range(self.random.randrange(4))]
            case _:
                return {pick(FIELDS): self.value(levels - 1) for _ in range(pick((1, 2, 5)))}

    def near(self, value: Any) -> Any:
        """A value with a change somewhere, as an app edits it."""
        if isinstance(value, dict) and value and self.random.random() < 0.95:
            key = self.random.choice([*value])
            if self.random.random() < 0.2:
                return {k: item for k, item in value.items() if k != key}
            return {**value, key: self.near(value[key])}
        if isinstance(value, list) and self.random.random() < 0.9:
            return [*value[1:], self.value(0)]
        if isinstance(value, (int, float)) and self.random.random() < 0.9:
            return value + self.random.randrange(-2, 4)
        return self.value()

    def mutation(self, key: str, current: Snapshot | None, now_ms: int) -> Mutation:
        """Raises SynclineError where the request itself is refused."""
        random = self.random
        version = 0 if current is None else current.version
        base = random.choice((version, version, max(0, version - random.randrange(6)), None, 9_999))
        device, id = random.choice(DEVICES), self._id()
        sender: dict[str, Any] = {"id": str(id)} if id else {}
        sender |= {"device": device} if device else {}
        sender |= {"edited_at": now_ms - random.randrange(9_000)} if random.random() < 0.5 else {}
        plain = None if current is None else current.stored.value
        held = RULES[key.partition(":")[0]][1] if plain is None else json.loads(plain)
        match random.randrange(24):
            case 0:
                return delete_mutation(key, DeleteQuery(base, device, id), now_ms)
            case 1:
                restored = max(1, version - random.randrange(3))
                return restore_mutation(key, restored, RestoreBody(id, device), now_ms)
            case 2:
                horizon = Horizon(now_ms - 5_000, frozenset(("phone",)))
                return fold_mutation(key, horizon, now_ms)
            case 3:
                return self.intake.imported(key, self.near(held), "old", ACCOUNT, now_ms - 1_000)
            case 4 | 5 | 6 | 7 | 8 | 9:
                body = {"id": str(uuid4_of(random)), **sender, "base": base}
                body["operations"] = self._operations(held)
                text = json.dumps(body).encode()
                return self.intake.patch(key, decode_body(text, PatchDocument), now_ms)
        content = {**sender, "base": base, "value": self.near(held)}
        if random.random() < 0.2:
            content["base_value"] = self.near(held)
        text = json.dumps(content).encode()
        return self.intake.put(key, decode_body(text, PutDocument), now_ms)

    def _id(self) -> UUID | None:
        if self.sent and self.random.random() < 0.1:
            return self.random.choice(self.sent)
        if self.random.random() < 0.3:
            return None
        self.sent.append(uuid4_of(self.random))
        return self.sent[-1]

    def _operations(self, held: Any) -> list[dict[str, Any]]:
        random = self.random
        operations: list[dict[str, Any]] = []
        for _ in range(random.randrange(1, 3)):
            tokens: list[str] = []
            while isinstance(held, dict) and held and random.random() < 0.8:
                tokens.append(random.choice([*held, random.choice(FIELDS)]))
                held = held.get(tokens[-1])
            path = "".join("/" + one.replace("~", "~0").replace("/", "~1") for one in tokens)
            operation: dict[str, Any] = {"op": random.choice(OPERATIONS), "path": path}
            if random.random() < 0.8:
                operation["value"] = random.choice((1, "a", self.value(1)))
            operations.append(operation)
        return operations


def registry() -> Registry:
    made = Registry()
    for name, (rule, _) in RULES.items():
        made.register(f"{name}:*", rule, unsafe=True)
    return made


def workspace(rules: Registry, cache: Cache) -> Workspace:
    return Workspace(
        history=HISTORY,
        now_ms=0,
        former_rule=rules.made_by,
        noted=cache.noted,
        heads={ACCOUNT: Head(0, 0)},
        seqs={ACCOUNT: 0},
        kept={},
        seen={},
        devices={},
    )


def told(decision: Decision) -> dict[str, Any]:
    """All that a decision says, in what JSON can hold."""
    document, proposed = decision.document, decision.proposed
    return {
        "outcome": decision.outcome,
        "problem": _problem(decision.problem),
        "base": decision.base,
        "change": decision.change,
        "created": decision.created,
        "receipt": decision.receipt,
        "document": None if document is None else repr(document),
        "proposed": None if proposed is None else repr(proposed),
    }


def _problem(problem: SynclineError | None) -> Any:
    if problem is None:
        return None
    return [problem.code.value, problem.detail, encode(problem.extensions).decode()]


def decided(seed: int, mutations: int) -> list[Any]:
    """What became of each request."""
    requests, rules, cache = Requests(seed), registry(), Cache(1 << 20)
    work, lines = workspace(rules, cache), []
    for number in range(mutations):
        key = requests.random.choice(KEYS)
        work.now_ms = 1_800_000_000_000 + 700 * number
        current = work.documents.get((ACCOUNT, key))
        try:
            mutation = requests.mutation(key, current, work.now_ms)
        except SynclineError as error:
            lines.append(_problem(error))
            continue
        except UnicodeEncodeError as error:  # of an import, which comes as a value, not as text
            lines.append(repr(error))
            continue
        rule, past = rules.rule_for(key), work.past(ACCOUNT)
        decision = decide(mutation, rule, current, past, LIMITS, work.now_ms)
        if decision.problem is None:
            work.record(ACCOUNT, mutation, decision, numbered=False)
        lines.append([mutation.op, mutation.digest.hex(), told(decision)])
        if number % 50 == 0:
            cache.keep(ACCOUNT, Head(0, 0), Head(0, 0), work.to_keep()[ACCOUNT])
    return [*lines, cache.size]


def main(arguments: Sequence[str]) -> None:
    seed, mutations = map(int, arguments)
    # Rules that fail are meant to: the log of each would take a second.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    print(json.dumps(is_compiled()))
    for line in decided(seed, mutations):
        print(json.dumps(line))


if __name__ == "__main__":
    main(sys.argv[1:])
