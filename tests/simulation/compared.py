"""The real service and the model behind one port, compared at every step."""

from typing import Any

from tests.simulation.model import Model
from tests.simulation.server import Crash, Documents, Folded, Json, Reply, Server, canonical
from tests.simulation.world import ACCOUNTS


class Compared:
    """The port twice: what the service says and holds must be what the model does."""

    def __init__(self, service: Server, model: Model) -> None:
        self.service = service
        self.model = model
        self.cursors: dict[str | None, str | None] = {None: None}
        """The model's cursor for each of the service's."""

    def sync(self, account: str, request: Json, crash: Crash | None = None) -> Reply:
        expected = self.model.sync(account, self._for_model(request), crash)
        reply = self.service.sync(account, request, crash)
        self._compare(account, (reply,), (expected,))
        return reply

    def overlap(self, account: str, first: Json, second: Json) -> tuple[Reply, Reply]:
        expected = self.model.overlap(account, self._for_model(first), self._for_model(second))
        replies = self.service.overlap(account, first, second)
        self._compare(account, replies, expected)
        return replies

    def documents(self, account: str) -> Documents:
        return self.service.documents(account)

    def accepted(self, account: str) -> frozenset[str]:
        return self.service.accepted(account)

    def recorded(self, account: str) -> frozenset[str]:
        recorded, expected = self.service.recorded(account), self.model.recorded(account)
        assert recorded == expected, f"the model has the events {expected}, not {recorded}"
        return recorded

    def audit(self, account: str) -> list[str]:
        return self.service.audit(account)

    def fold(self, before_ms: int) -> None:
        self.model.fold(before_ms)
        self.service.fold(before_ms)
        self.folded()
        self._compare_all()

    def folded(self) -> Folded:
        folded, expected = self.service.folded(), self.model.folded()
        assert folded == expected, f"the model has folded {expected}, and the service {folded}"
        return folded

    def change_rules(self) -> None:
        self.model.change_rules()
        self.service.change_rules()
        self._compare_all()

    def back_up(self) -> None:
        self.model.back_up()
        self.service.back_up()

    def restore(self) -> None:
        self.model.restore()
        self.service.restore()

    def _for_model(self, request: Json) -> Json:
        return request | {"cursor": self.cursors[request.get("cursor")]}

    def _compare_all(self) -> None:
        for account in ACCOUNTS:
            self._compare(account, (), ())

    def _compare(
        self, account: str, replies: tuple[Reply, ...], expected: tuple[Reply, ...]
    ) -> None:
        for reply, other in zip(replies, expected, strict=True):
            assert _essence(reply) == _essence(other), f"the model answers {other}, not {reply}"
            if reply.status == 200 and "cursor" in reply.body:
                self.cursors[reply.body["cursor"]] = other.body["cursor"]
        documents = self.service.documents(account)
        model = self.model.documents(account)
        assert documents == model, f"the model holds {model}, and the service {documents}"


def _essence(reply: Reply) -> Any:
    """What an answer says, without the times and texts that the model does not have."""
    if reply.status != 200:
        return reply.status, reply.body["code"]
    results = [
        (one["id"], one["outcome"], one.get("problem", {}).get("code"))
        + ((one["version"], _held(one)) if one["outcome"] != "rejected" else ())
        for one in reply.body["results"]
    ]
    changes = reply.body.get("changes", [])
    told = [(one["key"], one["version"], _held(one)) for one in changes]
    events = [_essence_of_event(one) for one in reply.body.get("events", [])]
    return results, told, events, reply.body.get("more")


def _essence_of_event(result: Json) -> Any:
    if result["outcome"] == "rejected":
        return result["id"], result["problem"]["code"]
    told = [result[name] for name in ("id", "outcome", "occurred_at", "effects")]
    return *told, result.get("clamped", False)


def _held(told: Json) -> bytes | None:
    return canonical(told["value"]) if "value" in told else None
