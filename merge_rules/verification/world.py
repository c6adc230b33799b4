"""Devices as apps use them: each keeps a copy, changes it, and sends it whole."""

from dataclasses import dataclass
from typing import Any

from merge_rules.collection import CausalSet, MapOf
from merge_rules.epoch import Resettable
from merge_rules.record import Record
from merge_rules.refusal import Refusal
from merge_rules.rule import ABSENT, Rule
from merge_rules.stamp import Stamp
from merge_rules.verification.examples import DEVICES, child_of
from merge_rules.verification.ledger import Ledger
from merge_rules.verification.promises import as_set
from merge_rules.verification.server import Server
from merge_rules.verification.story import Law, shown, when
from merge_rules.verification.watched import Watched

MEANT = Law("intentions", "the document holds what its users meant")
FIRST = "at first there is no document"


@dataclass
class Device:
    """A local store: its copy, the version that it came from, and the edits it knows of."""

    value: Any = ABSENT
    version: int = 0
    known: frozenset[int] = frozenset()


class World:
    """Devices, one server, and the ledger of what the users meant."""

    def __init__(self, rule: Watched) -> None:
        self.rule = rule
        self.server = Server(rule, [rule.bottom])
        self.devices = {name: Device() for name in DEVICES}
        self.ledger = Ledger(rule.rule)
        self.known: frozenset[int] = frozenset()
        self.story: list[str] = []
        self._tell(FIRST)

    def pull(self, name: str) -> None:
        """The device, which has sent all it wrote, takes the document."""
        device = self.devices[name]
        if device.version == self.server.version:
            return
        device.value = self.rule.value(self.server.current)
        device.version = self.server.version
        device.known |= self.known
        self._tell(f"device {name} pulled version {device.version}: {shown(device.value)}")

    def put(self, name: str, changes: Any, stamp: Stamp) -> None:
        """The user changes something; the device queues its whole copy on its old base."""
        device = self.devices[name]
        copy = overlay(self.rule.rule, device.value, changes)
        stamp = (stamp[0], stamp[1], name)
        base = f"on version {device.version}" if device.version else "having seen none"
        self._tell(f"device {name} wrote {shown(copy)} at {when(stamp)}, {base}")
        try:
            self.server.put(name, device.version, copy, stamp)
        except Refusal as refusal:
            self._tell(f"which the rule refused: {refusal}")
            return
        device.known = self.ledger.take_in(device.value, copy, device.known)
        device.value = copy
        self.known |= device.known

    def verify(self) -> None:
        """Raises Violation if the document does not hold what was meant."""
        value = self.rule.value(self.server.current)
        for path, wrong in self.ledger.wrongs(value):
            whole = [f"the document is {shown(value)}"] if path else []
            raise self.rule.violation(MEANT, *whole, wrong)

    def _tell(self, line: str) -> None:
        self.story.append(line)
        self.rule.begin(*self.story)


def overlay(rule: Rule, copy: Any, changes: Any) -> Any:
    """The copy with the changed fields in it, shown as an app would show it."""
    match rule:
        case Resettable():
            return overlay(rule.rule, copy, changes)
        case CausalSet():
            return as_set(changes)
        case Record() | MapOf():
            held: dict[str, Any] = {} if copy is ABSENT else copy
            return held | {
                key: overlay(child_of(rule, key), held.get(key, ABSENT), item)
                for key, item in changes.items()
            }
        case _:
            return changes
