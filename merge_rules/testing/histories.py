"""Histories: what devices can really bring about, by writes, pulls and operations."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from merge_rules.refusal import pointer
from merge_rules.rule import Operation, Rule, State
from merge_rules.stamp import Stamp
from merge_rules.testing.generators import devices, operations_of, stamp_of, values_of
from merge_rules.verification.examples import DEVICES
from merge_rules.verification.server import Server
from merge_rules.verification.story import Write, shown
from merge_rules.verification.watched import Watched
from merge_rules.verification.world import World


@dataclass
class History:
    """A server after some steps, and the version that each device holds."""

    server: Server
    seen: dict[str, int]
    story: list[str] = field(default_factory=list)

    @property
    def states(self) -> list[State]:
        return [*self.server.versions, *self.server.proposed]

    def put(self, value: Any, stamp: Stamp) -> None:
        """A device writes on the version that it pulled last."""
        device, version = stamp[2], self.seen[stamp[2]]
        self.tell(f"{Write(value, stamp).told()}, on version {version}")
        self.server.put(device, version, value, stamp)

    def patch(self, operation: Operation, stamp: Stamp) -> None:
        path, operand = pointer(operation.path), shown(operation.value)
        text = f"device {stamp[2]} sent {operation.op} {path or 'the document'}: {operand}"
        self.tell(text)
        if not self.server.patch(stamp[2], operation, stamp):
            self.tell("which was refused")

    def tell(self, line: str) -> None:
        self.story.append(line)
        if isinstance(self.server.rule, Watched):
            self.server.rule.begin(*self.story)


@st.composite
def histories(
    draw: DrawFn, rule: Rule | Watched, max_steps: int = 6, patches: bool = True, values: Any = None
) -> History:
    """Devices that pull, write on what they last pulled, queue writes, and send operations."""
    plain = rule.rule if isinstance(rule, Watched) else rule
    written = values_of(plain) if values is None else values
    history = History(Server(rule, [rule.bottom]), dict.fromkeys(DEVICES, 0))
    if draw(st.integers(0, 3)) == 0:
        value = draw(written)
        history.tell(f"the document is taken over from elsewhere: {shown(value)}")
        history.server.versions = [rule.adopt(value, (1, 0, ""))]
    actions = st.sampled_from(["put", "put", "pull"] + ["patch"] * patches)
    operations = operations_of(plain)
    for _ in range(draw(st.integers(0, max_steps))):
        device, action = draw(devices), draw(actions)
        if action == "pull":
            history.seen[device] = history.server.version
        elif action == "put":
            history.put(draw(written), stamp_of(draw, device))
        else:
            history.patch(draw(operations), stamp_of(draw, device))
    return history


def reachable_states(rule: Rule | Watched, count: int) -> SearchStrategy[list[State]]:
    """Some states of one history; together they obey that a device's writes are in order."""

    def pick(history: History) -> SearchStrategy[list[State]]:
        chosen = st.sampled_from(history.states)
        return st.lists(chosen, min_size=count, max_size=count)

    return histories(rule).flatmap(pick)


@st.composite
def worlds(draw: DrawFn, rule: Rule | Watched, max_steps: int = 8, values: Any = None) -> World:
    """Devices whose users change their copies, send them whole, and pull now and then.

    Raises Violation as soon as the document does not hold what its users meant.
    """
    watched = rule if isinstance(rule, Watched) else Watched(rule)
    changes = values_of(watched.rule) if values is None else values
    world = World(watched)
    actions = st.sampled_from(["put", "put", "pull"])
    for _ in range(draw(st.integers(0, max_steps))):
        device = draw(devices)
        if draw(actions) == "pull":
            world.pull(device)
        else:
            world.put(device, draw(changes), stamp_of(draw, device))
            world.verify()
    return world
