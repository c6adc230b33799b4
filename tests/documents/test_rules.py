"""Rules of the app's own, and rules that fail."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from merge_rules import RegistryError
from tests.documents.api import operate, path, put, refused, value, version, wrote
from tests.documents.contract import StartService

STRICT = """
from merge_rules import strict

def register(registry):
    registry.register("contract:*", strict)
"""

FAILING = """
import asyncio
import datetime
from merge_rules import ABSENT, Refusal, Rule, WrongType

class Own(Rule):
    bottom = None
    def __init__(self, part):
        self.part = part
        self.name = part
    def fails(self, part):
        if self.part == part:
            raise RuntimeError("the rule fails in " + part)
    def delta(self, base, value, stamp):
        self.fails("delta")
        return value if base is None or value > base else None
    def join(self, a, b):
        self.fails("join")
        return b if a is None else a if b is None else max(a, b)
    def check(self, value, path=()):
        self.fails("check")
        if type(value) is not int:
            raise WrongType(path, "an int")
    def promise(self, before, written):
        return written if before is ABSENT else max(before, written)
    def value(self, state):
        self.fails("value")
        if state is None:
            return ABSENT
        return object() if self.part == "rubbish" else state
    def stamps(self, state):
        self.fails("stamps")
        return iter((1, 2) if self.part == "rubbish-stamps" else ())
    def pack(self, state, value, sidecar):
        self.fails("pack")
        return {object(): object()} if self.part == "rubbish-state" else None
    def operate(self, state, operation, path, stamp):
        self.fails("operate")
        return object() if self.part == "rubbish-operate" else operation.value
    def describe(self):
        return self.part

class Endless(Own):
    def value(self, state):
        nested = []
        for _ in range(100_000):
            nested = [nested]
        return nested

class Shows(Own):
    def __init__(self, part, value):
        super().__init__(part)
        self.shown = value
    def value(self, state):
        return self.shown

class Throws(Own):
    def __init__(self, part, error):
        super().__init__(part)
        self.error = error
    def join(self, a, b):
        raise self.error

class Loud(WrongType):
    pass

PARTS = ("check", "delta", "join", "value", "stamps", "pack", "operate", "rubbish",
         "rubbish-stamps", "rubbish-state", "rubbish-operate")
SHOWN = {
    "shows-nan": float("nan"), "shows-infinity": [float("-inf")], "shows-set": {1, 2},
    "shows-date": {"at": datetime.date(2024, 2, 29)}, "shows-bytes": b"x",
    "shows-numbered-keys": {1: 2}, "shows-zero-byte": "\\0", "shows-surrogate": "\\ud800",
    "shows-too-much": 2**53, "shows-minus-zero": [-0.0], "shows-complex": 1j,
    "shows-nothing": ABSENT,
}
THROWN = {
    "throws-exit": SystemExit(1), "throws-cancelled": asyncio.CancelledError(),
    "throws-recursion": RecursionError(), "throws-memory": MemoryError(),
    "throws-refusal": Refusal((), "no"), "throws-assertion": AssertionError(),
}

def register(registry):
    for part in PARTS:
        registry.register(part, Own(part), unsafe=True)
    registry.register("endless", Endless("endless"), unsafe=True)
    for part, value in SHOWN.items():
        registry.register(part, Shows(part, value), unsafe=True)
    for part, error in THROWN.items():
        registry.register(part, Throws(part, error), unsafe=True)
    registry.register("sound", Own("nothing"))
    registry.register("loud", Throws("loud", Loud(("x",), "no")), unsafe=True)
"""
ALWAYS_FAILS = (
    "join", "value", "stamps", "pack", "rubbish", "rubbish-stamps", "rubbish-state", "endless",
    "shows-nan", "shows-infinity", "shows-set", "shows-date", "shows-bytes", "shows-numbered-keys",
    "shows-zero-byte", "shows-surrogate", "shows-too-much", "shows-minus-zero", "shows-complex",
    "throws-exit", "throws-cancelled", "throws-recursion", "throws-memory", "throws-refusal",
    "throws-assertion",
)  # fmt: skip
PUT_FAILS = ("check", "delta", "shows-nothing", *ALWAYS_FAILS)
PATCH_FAILS = ("operate", "rubbish-operate", *ALWAYS_FAILS)


@pytest.fixture
def client_of(start_service: StartService, tmp_path: Path) -> Any:
    def start(text: str) -> httpx.Client:
        file = tmp_path / f"rules_{uuid4().hex}.py"
        file.write_text(text)
        return start_service(rules=str(file)).client()

    return start


def test_a_strict_document(client_of: Any) -> None:
    """Some documents must never be merged: a late writer is told, with what there is."""
    key = "contract:1"
    with client_of(STRICT) as client:
        wrote(put(client, key, {"n": 1}, base=0), "applied", 1, {"n": 1}, 201)
        wrote(put(client, key, {"n": 2}, base=1), "applied", 2, {"n": 2})
        for stale in (0, 1):
            problem = refused(put(client, key, {"n": 3}, base=stale), 409, "conflict")
            assert (problem["document"]["version"], problem["document"]["value"]) == (2, {"n": 2})
        for unknown in ({}, {"base": None}, {"base": 9}, {"base_value": {"n": 2}}):
            problem = refused(put(client, key, {"n": 3}, **unknown), 409, "base-unknown")
            assert problem["document"]["value"] == {"n": 2}
        assert (version(client, key), value(client, key)) == (2, {"n": 2})
        wrote(put(client, key, {"n": 2}, base=2), "unchanged", 2, {"n": 2})
        answer = client.put(path(key), json={"value": {"n": 3}}, headers={"If-Match": '"2"'})
        wrote(answer, "applied", 3, {"n": 3})
        client.delete(path(key))
        wrote(put(client, key, {"n": 4}, base=3), "superseded", 4, None)
        wrote(put(client, key, {"n": 4}, base=4), "applied", 5, {"n": 4}, 201)


def test_a_conflict_can_be_resolved_from_the_problem_alone(client_of: Any) -> None:
    """The current document in the problem saves a round trip in the worst moment."""
    with client_of(STRICT) as client:
        put(client, "contract:1", {"n": 1}, base=0)
        put(client, "contract:1", {"n": 2}, base=1)
        there = put(client, "contract:1", {"m": 1}, base=1).json()["document"]
        mended = there["value"] | {"m": 1}
        answer = put(client, "contract:1", mended, base=there["version"])
        wrote(answer, "applied", 3, {"n": 2, "m": 1})


def test_a_failing_rule_rejects_its_own_document(client_of: Any) -> None:
    """Rules are the app's code: whatever one raises or returns, the answer is a clear 422."""
    with client_of(FAILING) as client:
        for key in PUT_FAILS:
            refused(put(client, key, 1, base=0, device="a"), 422, "rule-failed")
        for key in PATCH_FAILS:
            refused(operate(client, key, ("set", "", 1), device="a"), 422, "rule-failed")
        assert client.get("/v1/documents").json() == {"documents": []}
        wrote(put(client, "fine", 1), "applied", 1, 1, 201)
        # Else all of them might have failed for one fault that is in each.
        wrote(put(client, "sound", 1), "applied", 1, 1, 201)


def test_a_refusal_of_the_apps_own_kind_keeps_its_code(client_of: Any) -> None:
    """A rule may subclass a refusal to say more; its caller still gets the code it knows."""
    with client_of(FAILING) as client:
        problem = refused(put(client, "loud", 1, base=0, device="a"), 422, "wrong-type")
        assert problem["path"] == "/x"


def test_a_rule_that_breaks_a_law_does_not_start(
    start_service: StartService, tmp_path: Path
) -> None:
    """An author who never ran the check must hear of it before the first write is lost."""
    file = tmp_path / "careless.py"
    file.write_text(FAILING.replace(", unsafe=True", ""))
    with pytest.raises(RegistryError, match="breaks the law") as caught:
        start_service(rules=str(file))
    assert str(file) in str(caught.value)
    assert "unsafe=True" in str(caught.value)


def test_a_failing_rule_leaves_the_rest_of_its_batch_alone(client_of: Any) -> None:
    """One transaction commits many mutations; a rule that fails must not take others with it."""
    with client_of(FAILING) as client:
        keys = [key for part in PUT_FAILS for key in (part, f"fine:{part}")]
        mutations = [
            {"id": str(uuid4()), "op": "put", "key": key, "base": 0, "value": 1} for key in keys
        ]
        answer = client.post("/v1/sync", json={"device": "a", "mutations": mutations})
        assert answer.status_code == 200
        for result in answer.json()["results"]:
            if result["key"].startswith("fine:"):
                assert result["outcome"] == "applied", result
            else:
                assert result["problem"]["code"] == "rule-failed", result
        listed = client.get("/v1/documents").json()["documents"]
        assert [one["key"] for one in listed] == sorted(key for key in keys if "fine:" in key)


def test_a_rule_that_begins_to_fail(start_service: StartService, tmp_path: Path) -> None:
    """A bad release of the rules must not hide or harm the documents that are there."""
    good = tmp_path / "good.py"
    good.write_text(
        "from merge_rules import maximum\ndef register(r):\n    r.register('join', maximum)\n"
    )
    bad = tmp_path / "bad.py"
    bad.write_text(FAILING)
    account = f"release-{uuid4()}"
    before = start_service(rules=str(good))
    with before.client(account) as client:
        for n in range(1, 4):
            put(client, "join", n, base=n - 1, device="a")
        put(client, "join", 7, base=1, device="b")
    after = start_service(before.database_url, rules=str(bad))
    with after.client(account) as client:
        refused(put(client, "join", 9, base=4, device="a"), 422, "rule-failed")
        refused(put(client, "join", 9, base=1, device="a"), 422, "rule-failed")
        assert value(client, "join") == 7
        assert len(client.get(path("join") + "/revisions").json()["revisions"]) == 4
        wrote(client.delete(path("join")), "applied", 5, None)
    with start_service(before.database_url, rules=str(good)).client(account) as client:
        wrote(put(client, "join", 1, base=5), "applied", 6, 1, 201)


def test_a_kept_revision_whose_rule_cannot_explain_it(
    start_service: StartService, tmp_path: Path
) -> None:
    """Asking why must not end in a 500 because the app's rule fails at saying so."""
    file = tmp_path / "mute.py"
    file.write_text(
        "from merge_rules.scalar import Maximum\n"
        "class Mute(Maximum):\n"
        "    def child(self, token):\n        raise RuntimeError('no')\n"
        "    def describe(self):\n        return 'mute'\n"
        "    def check(self, value, path=()):\n        pass\n"
        "    def _key(self, value):\n        return (0, b'')\n"
        "def register(registry):\n    registry.register('mute', Mute(), unsafe=True)\n"
    )
    with start_service(rules=str(file)).client() as client:
        put(client, "mute", {"a": 1}, base=0)
        assert client.get(path("mute") + "/revisions/1").json()["value"] == {"a": 1}
        answer = client.get(path("mute") + "/revisions/1", params={"receipt": "true"})
        refused(answer, 422, "rule-failed")


def test_a_changed_rule_does_not_trip_over_a_tombstone(
    start_service: StartService, tmp_path: Path
) -> None:
    """A device's own deletion under an earlier rule made its next merge a 422 about `null`."""
    texts = {
        "old": "from merge_rules import last_write_wins as rule\n",
        "new": "from merge_rules import record\nrule = record({})\n",
    }
    for name, text in texts.items():
        rest = "def register(registry):\n    registry.register('k', rule)\n"
        (tmp_path / f"{name}.py").write_text(text + rest)
    account = f"tombstone-{uuid4()}"
    before = start_service(rules=str(tmp_path / "old.py"))
    with before.client(account) as client:
        put(client, "k", {"a": 1}, base=0, device="b")
        put(client, "k", {"a": 2}, base=1, device="b")
        client.delete(path("k"), params={"device": "a", "base": 2})
        put(client, "k", {"a": 3}, base=3, device="b")
    after = start_service(before.database_url, rules=str(tmp_path / "new.py"))
    with after.client(account) as client:
        answer = operate(client, "k", ("set", "/c", 5), device="a")
        wrote(answer, "applied", 5, {"a": 3, "c": 5})
