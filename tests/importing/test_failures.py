"""What is a row's fault rejects the row; what is the database's stops the import."""

import asyncio
import io
import json
from typing import Any

import pytest
from rich.console import Console

from app.errors import Code, SynclineError
from app.operations.importing import importer, writers
from app.operations.importing.room import Room
from app.rules_replay import replay_module
from tests.conftest import serving
from tests.importing.world import World
from tests.sync.database import execute

POISON = """
alter table documents add constraint no_poison check (value::text not like '%poison%');
select 1
"""


def rows(*values: Any) -> str:
    return "".join(
        json.dumps({"user_id": f"u{number}", "data": {"plain": value}}) + "\n"
        for number, value in enumerate(values)
    )


def test_what_the_database_refuses_rejects_its_own_row(world: World) -> None:
    """A batch that holds it fails as a whole, and then only it does."""
    asyncio.run(execute(world.new, POISON))
    path = world.file("rows.jsonl", rows(*(["good"] * 50), "poison", *(["good"] * 50)))
    done = world.bring_in("user_sync_data", path)
    assert done.codes == ["internal"]
    assert world.ask("select count(*) from documents")[0][0] == 100
    assert world.adds_up()


def test_nothing_is_rejected_because_nothing_can_be_written(world: World) -> None:
    """A right that is missing is no row's fault: the import stops, and goes on once it is
    given."""
    path = world.file("rows.jsonl", rows(*range(100)))
    asyncio.run(execute(world.new, "revoke insert on documents from syncline_service"))
    with pytest.raises(SynclineError) as caught:
        world.bring_in("user_sync_data", path)
    assert caught.value.code is Code.INTERNAL
    assert not (world.folder / "rejects.jsonl").exists()
    asyncio.run(execute(world.new, "grant insert on documents to syncline_service"))
    assert world.bring_in("user_sync_data", path).complete
    assert world.ask("select count(*) from documents")[0][0] == 100


def test_an_import_waits_for_a_database_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody restarts it, and the import goes on by itself."""
    path = world.file("rows.jsonl", rows(*range(2_000)))
    name = world.new.rpartition("/test_")[2].partition("?")[0]
    settle = importer.Importer._settle
    cut = 0

    async def cut_off(self: Any, progress: Any, done: Any) -> None:
        nonlocal cut
        if cut < 3:
            cut += 1
            await asyncio.to_thread(
                world.sql,
                "select pg_terminate_backend(pid) from pg_stat_activity "
                f"where datname = 'test_{name}' and pid <> pg_backend_pid()",
            )
        await settle(self, progress, done)

    monkeypatch.setattr(importer.Importer, "_settle", cut_off)
    assert world.bring_in("user_sync_data", path).complete
    assert cut == 3
    assert world.ask("select count(*) from documents")[0][0] == 2_000
    assert world.adds_up()


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that never comes back is told to the operator."""
    monkeypatch.setattr(writers, "PATIENCE_S", 0.0)
    monkeypatch.setattr(writers, "FIRST_PAUSE_S", 0.001)
    asked = 0

    async def away() -> None:
        nonlocal asked
        asked += 1
        raise SynclineError(Code.DATABASE_UNAVAILABLE, "It is away.")

    with pytest.raises(SynclineError):
        await writers.patiently(away)
    assert asked == 2


async def test_a_room_lets_in_by_turns_and_never_more_than_it_holds() -> None:
    """A small one behind a large one waits, or rows of one account would change places."""
    room, entered, held, most = Room(10), [], 0, 0

    async def enter(name: str, size: int) -> None:
        nonlocal held, most
        async with room.taken(size):
            entered.append(name)
            held += size
            most = max(most, held)
            await asyncio.sleep(0)
            held -= size

    names = [(f"n{number}", 1 + number * 7 % 10) for number in range(40)]
    tasks = [asyncio.create_task(enter(*one)) for one in names]
    await asyncio.sleep(0)
    tasks[5].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == [name for name, _ in names if name != "n5"]
    assert most <= 10
    async with room.taken(10):
        pass


def test_more_documents_than_an_account_may_have(world: World) -> None:
    """The limit of the service is the import's as well."""
    data = {f"k{number}": number for number in range(20)}
    path = world.file("rows.jsonl", json.dumps({"user_id": "u1", "data": data}))
    done = world.bring_in("user_sync_data", path, settings={"max_documents": 12})
    assert done.codes == ["too-many-documents"] * 8
    assert len(world.documents("u1")) == 12


def test_more_in_a_row_than_may_be_in_flight(world: World) -> None:
    """A queue that is full by the import's own doing must not stop it."""
    data = {f"k{number}": number for number in range(6_000)}
    content = json.dumps({"user_id": "u1", "data": data}) + "\n"
    path = world.file("rows.jsonl", content + content.replace("u1", "u2"))
    done = world.bring_in("user_sync_data", path, settings={"queue_limit": 10})
    assert done.complete
    assert world.ask("select count(*) from documents")[0][0] == 12_000


CHANGED = """
from merge_rules import last_write_wins, maximum, record
from merge_rules.epoch import resettable

def register(registry):
    rule = record({"score": maximum}, default=resettable(last_write_wins))
    registry.register("game_stats", rule)
"""


def test_rules_replay_knows_what_imports_brought(world: World) -> None:
    """Under a changed rule an import is joined as of its own time, not as of when it ran."""
    with serving(world.new) as service, service.client("u1") as client:
        body = {"base": 0, "device": "phone", "value": {"theme": "light", "score": 3}}
        assert client.put("/v1/documents/game_stats", json=body).status_code == 201
    data = {"game_stats": {"theme": "dark", "score": 90}}
    row = {"user_id": "u1", "updated_at": "2020-01-01", "data": data}
    assert world.bring_in("user_sync_data", world.file("rows.jsonl", json.dumps(row))).complete
    assert world.documents("u1")["game_stats"] == {"theme": "light", "score": 90}
    out = io.StringIO()
    module = world.file("changed_rules.py", CHANGED)
    asyncio.run(replay_module(world.new, module, 5, Console(file=out, width=200)))
    assert "1 of them under a rule that" in out.getvalue()
    assert "0 would differ, 0 cannot be replayed" in out.getvalue()
