"""The way between a device and the server, and what it does to requests and answers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from tests.simulation.oracle import Book
from tests.simulation.server import UNAVAILABLE, Crash, Json, Reply, Server

Fault = Literal[
    "none",
    "request dropped",
    "answer dropped",
    "doubled, first answer",
    "doubled, second answer",
    "late",
    "crash before commit",
    "crash after commit",
    "retried before commit",
    "retried after commit",
]
FAULTS: tuple[Fault, ...] = get_args(Fault)

CRASHES: dict[Fault, Crash] = {
    "crash before commit": "before",
    "crash after commit": "after",
    "retried before commit": "retried before",
    "retried after commit": "retried after",
}

OLDEST_MS = 366 * 86_400_000
CLOCK_TOLERANCE_MS = 120_000


@dataclass
class Network:
    """Carries requests. It overhears every answer, also those that get lost."""

    server: Server
    clock: Callable[[], int]
    books: dict[str, Book]
    coverage: Counter[str]
    under_way: list[tuple[str, Json]] = field(default_factory=list)
    """Requests that arrive at some later time, in any order; nobody waits for the answer."""
    bodies: dict[str, dict[str, Json]] = field(default_factory=dict)
    """By account, every mutation that was acknowledged."""
    true_times: dict[str, int] = field(default_factory=dict)
    """By id, when an event happened by the true time, whatever its device took it for."""

    def send(self, account: str, request: Json, fault: Fault) -> Reply | None:
        """The answer; None if the device waits in vain."""
        self.coverage[f"fault: {fault}"] += 1
        self.coverage[f"events: {fault}"] += bool(request["events"])
        if fault in CRASHES:
            reply = self._deliver(account, request, CRASHES[fault])
            return None if reply == UNAVAILABLE else reply
        match fault:
            case "request dropped":
                return None
            case "late":
                self.under_way.append((account, request))
                return None
            case "doubled, first answer":
                reply = self._deliver(account, request)
                self._deliver(account, request)
                return reply
            case "doubled, second answer":
                self._deliver(account, request)
        reply = self._deliver(account, request)
        return None if fault == "answer dropped" else reply

    def send_two(self, account: str, first: Json, second: Json) -> tuple[Reply, Reply]:
        self.coverage["fault: read and commit split"] += 1
        self.coverage["events: split"] += bool(first["events"] and second["events"])
        replies = self.server.overlap(account, first, second)
        for request, reply in zip((first, second), replies, strict=True):
            self._overhear(account, request, reply)
        return replies

    def arrive(self, pick: int) -> None:
        """A request of the past arrives."""
        account, request = self.under_way.pop(pick % len(self.under_way))
        reply = self._deliver(account, request)
        assert reply.status in (200, 409, 410), reply
        self.coverage["late arrival"] += 1

    def _deliver(self, account: str, request: Json, crash: Crash | None = None) -> Reply:
        reply = self.server.sync(account, request, crash)
        self._overhear(account, request, reply)
        return reply

    def _overhear(self, account: str, request: Json, reply: Reply) -> None:
        if reply.status != 200:
            self.coverage[reply.body["code"]] += 1
            return
        for event, result in zip(request["events"], reply.body.get("events", []), strict=True):
            book = self.books[account].events
            self.coverage.update(book.heard(event, result, request["device"]))
            if result["outcome"] == "accepted":
                self._check_time(request, event, result)
        for body, result in zip(request["mutations"], reply.body["results"], strict=True):
            assert result["id"] == body["id"], "results come in the order of the mutations"
            outcome = result["outcome"]
            self.coverage[outcome] += 1
            if outcome == "rejected":
                self.coverage[result["problem"]["code"]] += 1
                folded = self.books[account].folded.get(body["key"], 0)
                if result["problem"]["code"] == "base-unknown":
                    self.coverage["refused on a folded base"] += (body["base"] or 0) < folded
                continue
            self.bodies.setdefault(account, {})[body["id"]] = body
            self.books[account].heard(result)
            base = body.get("base")
            if base is not None and outcome != "duplicate" and base + 1 < result["version"]:
                self.coverage["stale commit"] += 1
            if 0 < (base or 0) <= self.books[account].changed.get(body["key"], 0):
                self.coverage["commit on a base of another rule"] += outcome == "merged"
            if "base_value" in body and outcome != "duplicate":
                self.coverage["commit on a forgotten base"] += 1

    def _check_time(self, request: Json, event: Json, result: Json) -> None:
        """A wrong clock moves nothing by more than is tolerated, if it goes on as it was."""
        now_ms, true_ms = self.clock(), self.true_times[event["id"]]
        if request["sent_at"] - now_ms != event["occurred_at"] - true_ms:
            return  # It was set since, or the request took its time.
        told_ms, oldest_ms = result["occurred_at"], now_ms - OLDEST_MS
        off_ms = abs(told_ms - max(true_ms, oldest_ms))
        assert off_ms <= CLOCK_TOLERANCE_MS, f"{event} happened at {true_ms}, not at {told_ms}"
        self.coverage["event set right"] += told_ms != event["occurred_at"]
