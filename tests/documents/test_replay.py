"""Before a changed rule is deployed: which documents would have come out otherwise?"""

from collections.abc import Callable
from pathlib import Path

from app.database.engine import Database
from app.documents.replay import Difference, Replayed, replay_all
from app.documents.rules import load_registry
from app.settings import Settings
from tests.conftest import Service
from tests.documents.api import operate, path, put

StartService = Callable[..., Service]


async def replayed(service: Service, module: Path) -> dict[tuple[str, str], Replayed]:
    """Every document by account and key, replayed with the rules of a module."""
    registry = load_registry(Settings(rules=str(module)))
    database = Database(service.database_url, pool_size=1, statement_timeout_ms=5_000)
    try:
        return {(one.account, one.key): one async for one in replay_all(database, registry)}
    finally:
        await database.close()


def module(folder: Path, rule: str) -> Path:
    file = folder / "changed.py"
    file.write_text(
        "from merge_rules import *\n"
        f"def register(registry):\n    registry.register('game_stats', {rule})\n"
    )
    return file


async def test_a_field_that_becomes_a_counter(start_service: StartService, tmp_path: Path) -> None:
    """Two devices raised a last-write-wins number at once: one raise was lost, and is found."""
    service = start_service()
    with service.client("a") as client:
        put(client, "game_stats", {"score": 1, "coins": 10}, base=0, device="a")
        put(client, "game_stats", {"score": 1, "coins": 15}, base=1, device="a")
        put(client, "game_stats", {"score": 1, "coins": 12}, base=1, device="b")
        put(client, "settings", {"theme": "dark"}, base=0, device="a")
    changed = module(tmp_path, "record({'score': maximum, 'coins': counter})")
    found = await replayed(service, changed)
    assert found["a", "game_stats"].differences == [Difference("/coins", 12, 17)]
    assert not found["a", "settings"].rule_changed


async def test_the_same_rules_change_nothing(start_service: StartService, tmp_path: Path) -> None:
    """A field that only moves to another record is not reported, removals included."""
    service = start_service()
    with service.client("a") as client:
        put(client, "game_stats", {"score": 1, "name": "x", "games_played": 3}, base=0, device="a")
        operate(client, "game_stats", ("unset", "/name"))
        put(client, "game_stats", {"score": 5, "games_played": 4}, base=1, device="b")
    rule = "record({'score': maximum, 'games_played': counter, 'fresh': flag})"
    found = await replayed(service, module(tmp_path, rule))
    assert found["a", "game_stats"].rule_changed
    assert found["a", "game_stats"].differences == []


async def test_what_cannot_be_adopted_is_said(start_service: StartService, tmp_path: Path) -> None:
    """A value that the new rule refuses would refuse every write: better known before."""
    service = start_service()
    with service.client("a") as client:
        put(client, "game_stats", {"coins": "many"}, base=0, device="a")
    with service.client("b") as client:
        put(client, "game_stats", {"coins": 3}, base=0, device="a")
        put(client, "game_stats", {"coins": 4}, base=1, device="a")
        client.delete(path("game_stats"))
    found = await replayed(service, module(tmp_path, "record({'coins': counter})"))
    problem = found["a", "game_stats"].problem
    assert problem is not None
    assert "coins" in problem
    assert found["b", "game_stats"].problem is None
