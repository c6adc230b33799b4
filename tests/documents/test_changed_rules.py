"""A deployment changes the rule of a key: what is stored is adopted, once, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.clock import system_clock
from app.database.engine import Database
from app.documents.rules import load_registry, remember_rules
from app.settings import Settings
from merge_rules.registry import RegistryError
from tests.conftest import Service
from tests.documents.api import path, put, refused, value, wrote

StartService = Callable[..., Service]


def rules(folder: Path, name: str, text: str) -> str:
    """The path of a module that registers `text` for the key `k`."""
    file = folder / f"{name}.py"
    imports = "from merge_rules import *\n"
    file.write_text(f"{imports}def register(registry):\n    registry.register('k', {text})\n")
    return str(file)


def test_a_changed_record_keeps_the_stamps_of_its_fields(
    start_service: StartService, tmp_path: Path
) -> None:
    """A field whose rule stays keeps its state: an edit older than the stored one still loses."""
    before = start_service(rules=rules(tmp_path, "old", "record({'n': counter})"))
    now = system_clock()
    with before.client("a") as client:
        put(client, "k", {"n": 5, "name": "x"}, base=0, device="a", edited_at=now - 1_000)
        put(client, "k", {"n": 6, "name": "y"}, base=1, device="a", edited_at=now - 500)
    new = rules(tmp_path, "new", "record({'n': counter, 'best': maximum})")
    after = start_service(before.database_url, rules=new)
    with after.client("a") as client:
        late = {"n": 7, "name": "late"}
        answer = put(client, "k", late, base=1, device="b", edited_at=now - 800)
        wrote(answer, "merged", 3, {"n": 8, "name": "y"})
        whole = {"n": 8, "name": "y", "best": 4}
        wrote(put(client, "k", {"best": 4}, base=3, device="b"), "applied", 4, whole)
    # An older process beside it reads what the newer one wrote, and back.
    older = start_service(before.database_url, rules=str(tmp_path / "old.py"))
    with older.client("a") as client:
        answer = put(client, "k", {"n": 9}, base=2, device="c")
        assert answer.json()["value"] == {"n": 11, "name": "y", "best": 4}


def test_a_map_whose_keys_become_removable(start_service: StartService, tmp_path: Path) -> None:
    """Counts inside are carried over with their devices, so that nothing counts twice."""
    before = start_service(rules=rules(tmp_path, "old", "map_of(counter)"))
    with before.client("a") as client:
        put(client, "k", {"x": 3}, base=0, device="a")
        put(client, "k", {"x": 4}, base=1, device="a")
    new = rules(tmp_path, "new", "map_of(counter, removable=True)")
    with start_service(before.database_url, rules=new).client("a") as client:
        wrote(put(client, "k", {"x": 5}, base=1, device="a"), "merged", 3, {"x": 5})
        wrote(put(client, "k", {}, base=3, device="b"), "applied", 4, {})


def test_a_value_that_the_new_rule_cannot_hold(start_service: StartService, tmp_path: Path) -> None:
    """One document of many may not fit: its writes say so, it can be read, and deleted."""
    before = start_service(rules=rules(tmp_path, "old", "record({})"))
    with before.client("a") as client:
        put(client, "k", {"n": "many"}, base=0, device="a")
    new = rules(tmp_path, "new", "record({'n': counter})")
    with start_service(before.database_url, rules=new).client("a") as client:
        problem = refused(put(client, "k", {"n": 1}, base=1, device="a"), 409, "rule-mismatch")
        assert problem["path"] == "/n"
        assert value(client, "k") == {"n": "many"}
        wrote(client.delete(path("k")), "applied", 2, None)
        wrote(put(client, "k", {"n": 1}, base=2, device="a"), "applied", 3, {"n": 1}, 201)


async def test_a_change_that_nothing_can_follow_is_refused_at_the_start(
    start_service: StartService, tmp_path: Path
) -> None:
    """A number can never be an array: found at the start, not by the first user who writes."""
    old = rules(tmp_path, "old", "record({'n': maximum})")
    service = start_service(rules=old)
    new = Settings(rules=rules(tmp_path, "new", "record({'n': union})"))
    database = Database(service.database_url, pool_size=1, statement_timeout_ms=5_000)
    try:
        # No document was stored under the old rule yet, so there is nothing to lose.
        await remember_rules(database, load_registry(new), system_clock)
        with service.client("a") as client:
            put(client, "k", {"n": 3}, base=0, device="a")
        with pytest.raises(RegistryError) as caught:
            await remember_rules(database, load_registry(new), system_clock)
        for part in ("'k'", "/n was maximum", "union takes an array", "another key or field"):
            assert part in str(caught.value)
    finally:
        await database.close()
