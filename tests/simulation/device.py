"""A small, faithful offline client: local documents, an outbox of edits and events, a cursor."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulation.server import SERVER_OWNED, Json, Reply


@dataclass(slots=True)
class Copy:
    """A document as the server last gave it; version None: of a past that the server lost."""

    version: int | None = 0
    value: Any = None


@dataclass(slots=True)
class Pending:
    """A mutation that waits for its acknowledgement."""

    body: Json
    before: Any
    """The document that the device had when it was edited."""
    chained: bool
    """Whether it was made on top of another one that waited, and not on the server's copy."""
    sent: bool = False
    rebased: bool = False
    """Whether it is to be made on whatever the device holds when it is sent."""

    def forget_base(self) -> None:
        """Its base means nothing (any more): says what the device had instead."""
        if self.body["op"] == "patch":
            self.body.pop("base", None)
            return
        if self.body["base"] == 0 and not self.chained:
            return  # It was made on nothing, and still is.
        self.body["base"] = None
        if self.body["op"] == "put" and self.before is not None:
            self.body["base_value"] = self.before

    def duplicate(self) -> "Pending":
        return replace(self, body=dict(self.body))


@dataclass(slots=True)
class PendingEvent:
    """An event that waits until the server says that it has it, or will not have it."""

    body: Json
    sent: bool = False
    """Whether any store has sent it: it is the same in all copies of a store."""


@dataclass(slots=True)
class Store:
    """One opened local store. It edits what it sees: the server's copy with its outbox on top."""

    device: str
    account: str
    copies: dict[str, Copy] = field(default_factory=dict)
    outbox: list[Pending] = field(default_factory=list)
    events: list[PendingEvent] = field(default_factory=list)
    cursor: str | None = None
    previous: str | None = None
    era: int = 0
    """How many restored backups of the server it knows of: for the books only."""
    copied: bool = False
    """Whether a copy of it may go by the same device id: for the machine only."""
    resync: set[str] | None = None
    """While it starts over after a 410: the keys that the server gave so far."""

    def duplicate(self) -> "Store":
        """What a copy of its files holds."""
        self.copied = True
        return replace(
            self,
            copies={key: replace(one) for key, one in self.copies.items()},
            outbox=[one.duplicate() for one in self.outbox],
            events=list(self.events),
            resync=None if self.resync is None else set(self.resync),
        )

    # --- edits -------------------------------------------------------------------------------

    def view(self, key: str) -> tuple[int | None, Any]:
        """The document as the app sees it, to be edited at will, and the version below it."""
        held = self.copies.get(key, Copy())
        base, value = held.version, copy.deepcopy(held.value)
        for pending in self.outbox:
            body = pending.body
            if body["key"] != key:
                continue
            match body["op"]:
                case "put":
                    base, value = body["base"], copy.deepcopy(body["value"])
                case "patch":
                    value = _patched(value, body)
                case _:
                    # What the server makes of the delete is a version that is not known yet.
                    base, value = None, None
        return base, value

    def waiting(self, key: str) -> list[Pending]:
        return [one for one in self.outbox if one.body["key"] == key]

    def put(self, key: str, value: Any, edit: Json) -> None:
        base, before = self.view(key)
        self._queue({"op": "put", "key": key, "value": value, "base": base, **edit}, before)

    def patch(self, key: str, edit: Json, *, with_base: bool) -> None:
        base, before = self.view(key)
        named = {"base": base} if with_base and base is not None else {}
        self._queue({"op": "patch", "key": key, **named, **edit}, before)

    def delete(self, key: str, edit: Json) -> None:
        base, before = self.view(key)
        self._queue({"op": "delete", "key": key, "base": base, **edit}, before)

    def _queue(self, body: Json, before: Any) -> None:
        pending = Pending(body, before, chained=bool(self.waiting(body["key"])))
        if body.get("base", 0) is None:
            pending.forget_base()
        self.outbox.append(pending)

    # --- the wire ----------------------------------------------------------------------------

    def request(self, sent_at_ms: int, limit: int, take: int) -> Json:
        """Pushes the first `take` mutations and events that wait, and pulls."""
        for pending in self.outbox[:take]:
            pending.sent = True
            if pending.rebased:
                pending.body["base"] = self.copies.get(pending.body["key"], Copy()).version
        for event in self.events[:take]:
            event.sent = True
        return {
            "device": self.device,
            "cursor": self.cursor,
            "sent_at": sent_at_ms,
            "previous": self.previous,
            "limit": limit,
            "mutations": [dict(pending.body) for pending in self.outbox[:take]],
            "events": [event.body for event in self.events[:take]],
        }

    def request_alone(self, sent_at_ms: int) -> Json:
        """The first mutation of the outbox, for the route of its document."""
        self.outbox[0].sent = True
        body = dict(self.outbox[0].body)
        return self._alone(sent_at_ms, mutations=[body])

    def request_events_alone(self, sent_at_ms: int) -> Json:
        """All events that wait, for the route of events."""
        for event in self.events:
            event.sent = True
        return self._alone(sent_at_ms, events=[event.body for event in self.events])

    def _alone(self, sent_at_ms: int, **content: list[Json]) -> Json:
        head = {"device": self.device, "sent_at": sent_at_ms, "alone": True}
        return {"mutations": [], "events": [], **head, **content}

    def receive(self, request: Json, reply: Reply, new_device: Callable[[], str]) -> bool:
        """Takes in an answer, as one local transaction; whether it was one and all is pulled."""
        match reply.status, reply.body.get("code"):
            case 200, _ if request.get("alone"):
                self._adopt_results(request, reply.body)
            case 200, _:
                self._adopt(request, reply.body)
                return not reply.body["more"]
            case 409, "device-forked":
                self.take_a_new_identity(new_device())
            case 410, "cursor-expired":
                self._start_over()
            case status, code:
                assert status == 503, (status, code)
        return False

    def _adopt(self, request: Json, answer: Json) -> None:
        """Results, then changes, then the cursor."""
        self._adopt_results(request, answer)
        for change in answer["changes"]:
            self._hold(change["key"], change["version"], change["value"])
        self.cursor = answer["cursor"]
        if self.resync is not None and not answer["more"]:
            self.copies = {key: one for key, one in self.copies.items() if key in self.resync}
            self.resync = None

    def _adopt_results(self, request: Json, answer: Json) -> None:
        sent = {body["id"]: body for body in request["mutations"]}
        for result in answer["results"]:
            self._adopt_result(result, sent[result["id"]])
        # Accepted, a duplicate, or refused for good: in any case there is nothing to send again.
        self.events = [one for one in self.events if one.body not in request["events"]]

    def _adopt_result(self, result: Json, body: Json) -> None:
        if result["outcome"] == "rejected":
            code = result["problem"]["code"]
            pending = next(one for one in self.outbox if one.body["id"] == result["id"])
            if code == "base-unknown":
                # What was made on nothing, while it was deleted, has no base value to send.
                pending.rebased = pending.before is None
                if pending.before is not None:
                    pending.body["base_value"] = pending.before
                return
            if body["key"] in SERVER_OWNED:
                assert code == "server-owned", result
            else:
                # Nothing is there to delete: a restored database has lost it.
                assert (code, body["op"]) == ("document-not-found", "delete"), result
        else:
            self._hold(result["key"], result["version"], result.get("value", body.get("value")))
            self.previous = result["id"]
        self.outbox = [one for one in self.outbox if one.body["id"] != result["id"]]

    def _hold(self, key: str, version: int, value: Any) -> None:
        self.copies[key] = Copy(version, value)
        if self.resync is not None:
            self.resync.add(key)

    def take_a_new_identity(self, device: str) -> None:
        """This store is a copy of another one, or looks like it.

        What an edit was made on top of may be known under the old id alone, so it says what that
        was; and so does the first of a chain, lest it is refused and comes in behind the others.
        """
        self.device, self.previous, self.copied = device, None, False
        for pending in self.outbox:
            if pending.chained:
                pending.forget_base()
            elif pending.body["op"] == "put" and pending.before is not None:
                pending.body["base_value"] = pending.before

    def _start_over(self) -> None:
        """The server was restored: versions known here may name other states by now."""
        self.cursor, self.resync = None, set()
        for held in self.copies.values():
            held.version = None
        for pending in self.outbox:
            pending.forget_base()


def _patched(value: Any, body: Json) -> Any:
    """What a patch makes of the document on the device: counts and plain fields."""
    value = dict(value or {})
    for name, amount in body.get("delta", {}).items():
        value[name] = value.get(name, 0) + amount
    return value | body.get("set", {})
