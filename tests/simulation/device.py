"""A small, faithful offline client: local documents, an outbox, a cursor."""

import random
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

Json = dict[str, Any]


@dataclass
class Copy:
    """A document as the server last gave it."""

    version: int = 0
    value: Any = None


@dataclass
class Pending:
    """A mutation that waits for its acknowledgement."""

    body: Json
    before: Any
    """The document that the device had when it was edited: sent if the base is forgotten."""


@dataclass
class Device:
    """One opened local store. It edits what it sees: the server's copy with its outbox on top."""

    name: str
    skew_ms: int
    rng: random.Random
    copies: dict[str, Copy] = field(default_factory=dict)
    outbox: list[Pending] = field(default_factory=list)
    cursor: str | None = None
    previous: str | None = None

    def view(self, key: str) -> tuple[int, Any]:
        """The document as the app sees it, and the version that it comes from."""
        copy = self.copies.get(key, Copy())
        base, value = copy.version, copy.value
        for pending in self.outbox:
            body = pending.body
            if body["key"] != key:
                continue
            if body["op"] == "put":
                base, value = body["base"], body["value"]
            else:
                value = _patched(value, body)
        return base, value

    def put(self, key: str, value: Any, now_ms: int) -> None:
        base, before = self.view(key)
        body = {"op": "put", "key": key, "value": value, "base": base}
        self._queue(body, before, now_ms)

    def patch(self, key: str, now_ms: int, *, with_base: bool, **change: Any) -> None:
        base, before = self.view(key)
        body = {"op": "patch", "key": key, **change, **({"base": base} if with_base else {})}
        self._queue(body, before, now_ms)

    def _queue(self, body: Json, before: Any, now_ms: int) -> None:
        identifier = str(UUID(int=self.rng.getrandbits(128), version=4))
        edited_at = now_ms + self.skew_ms
        self.outbox.append(Pending({"id": identifier, "edited_at": edited_at, **body}, before))

    def waits_with_put(self, key: str) -> bool:
        """Whether a whole document waits: until it is through, edits are whole documents too.

        A patch behind a put that is refused for its base would be applied before it.
        """
        return any(one.body["key"] == key and one.body["op"] == "put" for one in self.outbox)

    def request(self, now_ms: int, limit: int) -> Json:
        return {
            "device": self.name,
            "cursor": self.cursor,
            "sent_at": now_ms + self.skew_ms,
            "previous": self.previous,
            "limit": limit,
            "mutations": [dict(pending.body) for pending in self.outbox],
        }

    def adopt(self, request: Json, answer: Json) -> list[Json]:
        """Results, then changes, then the cursor. The rejected results are given back."""
        sent = {body["id"]: body for body in request["mutations"]}
        rejected = []
        for result in answer["results"]:
            identifier = result["id"]
            if result["outcome"] == "rejected":
                rejected.append(result)
                continue
            value = result.get("value", sent[identifier].get("value"))
            self.copies[result["key"]] = Copy(result["version"], value)
            self.previous = identifier
            self.outbox = [one for one in self.outbox if one.body["id"] != identifier]
        for change in answer["changes"]:
            self.copies[change["key"]] = Copy(change["version"], change["value"])
        self.cursor = answer["cursor"]
        self._send_base_values(rejected)
        return rejected

    def _send_base_values(self, rejected: list[Json]) -> None:
        """What the service asks for with `base-unknown`."""
        forgotten = {
            result["id"] for result in rejected if result["problem"]["code"] == "base-unknown"
        }
        for pending in self.outbox:
            if pending.body["id"] in forgotten and pending.before is not None:
                pending.body["base_value"] = pending.before


def _patched(value: Any, body: Json) -> Any:
    """What a patch makes of the document on the device: counts and plain fields."""
    value = dict(value or {})
    for name, amount in body.get("delta", {}).items():
        value[name] = value.get(name, 0) + amount
    value |= body.get("set", {})
    return value
