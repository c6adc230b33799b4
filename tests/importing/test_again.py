"""An import is a join: again, later, after people have played, it takes nothing away and counts
nothing twice."""

import asyncio
import json
from typing import Any

import pytest

from app.clock import system_clock
from app.database.engine import Database
from app.documents import housekeeping
from merge_rules.documents import GAME_STATS
from merge_rules.state import Stored, decode
from tests.conftest import Service, serving
from tests.documents.test_folding import another_process
from tests.importing.tables import TABLES
from tests.importing.test_shipped import ADA, BEN, NOW
from tests.importing.world import World

DAY_MS = 86_400_000
EVERYTHING = (
    *("user_sync_data", "user_stats", "student_progress", "xp_totals", "xp_events", "profiles"),
    *("session_results", "user_stitch_progress", "users_total_xp"),
)


@pytest.fixture
def old(world: World) -> World:
    """An old database with something in each table."""
    data = {
        "game_stats": {"score": 90, "games_played": 7, "current_streak": 2},
        "settings": {"theme": "dark", "ai_themes": {"sea": {"hue": 3}, "sun": {"hue": 9}}},
        "plain": "as it was",
    }
    world.sql(TABLES)
    world.sql(
        f"""
        insert into user_sync_data values ('{ADA}', '{json.dumps(data)}', {NOW});
        insert into user_sync_data values ('{BEN}', '{json.dumps(data)}', null);
        insert into user_stats ("userId", xp, hearts, "updatedAt") values ('{ADA}', 150, 5, {NOW});
        insert into student_progress (student_id, total_points) values ('{ADA}', 900);
        insert into xp_totals values ('{ADA}', 1200, 10, 'quiz', {NOW});
        insert into xp_events select gen_random_uuid(), '{ADA}', 10, null, {NOW}
            from generate_series(1, 20);
        insert into profiles (id, display_name, total_points, total_sessions, streak_days,
            last_session_date) values ('{ADA}', 'Ada', 500, 9, 4, {NOW});
        insert into session_results (id, user_id, thread_id, stitch_id, total_points)
            values ('s1', '{ADA}', 'T1', 'S1', 120);
        insert into user_stitch_progress (user_id, thread_id, stitch_id)
            values ('{ADA}', 'T1', 'S1');
        insert into users (name, total_xp) values ('Ada', 7);
        """
    )
    return world


def bring_all(old: World, **options: Any) -> None:
    for name in EVERYTHING:
        done = old.bring_in(name, **options)
        assert done.complete, done.said


def put(service: Service, account: str, key: str, base: int, value: Any) -> None:
    with service.client(account) as client:
        body = {"base": base, "device": "phone", "value": value}
        answer = client.put(f"/v1/documents/{key}", json=body)
        assert answer.status_code in (200, 201), answer.text


def test_twice_changes_nothing(old: World) -> None:
    """An operator who is not sure whether it ran runs it again."""
    bring_all(old)
    before = old.everything()
    bring_all(old)
    bring_all(old, afresh=True)
    assert old.everything() == before
    assert old.adds_up()


def forget_ids(world: World) -> None:
    """What no pruning does: the ids of imports are kept, but a join must not lean on them."""
    world.ask("delete from mutations")
    world.ask("update heads set tag = (random() * 9e18)::bigint")


def test_once_the_ids_are_forgotten_the_state_still_knows(old: World) -> None:
    """Counters, too: an import sets what it brought, and never adds it again."""
    bring_all(old)
    before = dict(old.everything())
    forget_ids(old)
    bring_all(old)
    after = dict(old.everything())
    for table in ("documents", "revisions", "events", "totals", "standings"):
        assert after[table] == before[table], table


def test_ids_of_imports_outlive_the_pruning(old: World) -> None:
    """The ids of devices go after 90 days; an import may come back after a year."""
    bring_all(old)
    before = old.ask("select count(*) from mutations")[0][0]

    async def prune() -> int:
        database = Database(old.new, pool_size=1, statement_timeout_ms=10_000)
        try:
            return await housekeeping.prune(database, system_clock() + 4_000 * DAY_MS)
        finally:
            await database.close()

    assert asyncio.run(prune()) == 0
    assert old.ask("select count(*) from mutations")[0][0] == before > 0


def test_what_was_played_meanwhile_stays_and_what_is_imported_is_added(old: World) -> None:
    """People had the new app before their old data came."""
    with serving(old.new) as service:
        put(service, ADA, "game_stats", 0, {"score": 40, "games_played": 2, "current_streak": 9})
        put(service, ADA, "settings", 0, {"theme": "light", "sound": True})
        put(service, ADA, "plain", 0, "as it is now")
        with service.client(ADA) as client:
            event = {"id": f"{BEN[:-1]}1", "type": "xp", "payload": {"amount": 5}}
            assert client.post("/v1/events", json={"events": [event]}).status_code == 200
    bring_all(old)
    documents = old.documents(ADA)
    assert documents["game_stats"] == {"score": 90, "games_played": 9, "current_streak": 9}
    assert documents["settings"] == {
        "theme": "light",
        "sound": True,
        "ai_themes": {"sea": {"hue": 3}, "sun": {"hue": 9}},
    }
    assert documents["plain"] == "as it is now"
    assert documents["totals"]["xp"] == 1205
    assert old.adds_up()
    before = old.everything()
    bring_all(old)
    assert old.everything() == before


def test_what_is_edited_afterwards_survives_a_repeat(old: World) -> None:
    """The old database is still there, and somebody runs the import once more."""
    bring_all(old)
    with serving(old.new) as service:
        put(service, ADA, "settings", 1, {"theme": "light", "ai_themes": {"sun": {"hue": 9}}})
        put(service, ADA, "game_stats", 1, {"score": 95, "games_played": 8, "current_streak": 0})
        with service.client(ADA) as client:
            assert client.delete("/v1/documents/plain?base=1").status_code == 200
            event = {"id": f"{BEN[:-1]}1", "type": "xp", "payload": {"amount": 5}}
            client.post("/v1/events", json={"events": [event]})
    before = old.everything()
    expected = old.documents(ADA)
    assert expected["settings"]["ai_themes"] == {"sun": {"hue": 9}}
    assert expected["plain"] is None
    assert expected["totals"]["xp"] == 1205
    bring_all(old)
    assert old.everything() == before
    forget_ids(old)
    for name in EVERYTHING:
        old.bring_in(name)
    assert old.documents(ADA) == expected


def test_after_folding_a_repeat_still_changes_nothing(
    old: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folding makes one entry of the counts of devices that are gone, and forgets removals; what
    an import brought must be known all the same."""
    bring_all(old)
    with serving(old.new) as service:
        put(service, ADA, "settings", 1, {"theme": "light", "ai_themes": {"sun": {"hue": 9}}})
        put(service, ADA, "game_stats", 1, {"score": 95, "games_played": 8, "current_streak": 0})
        put(service, ADA, "user_stats", 1, {"xp": 160, "hearts": 4})
    later = system_clock() + 200 * DAY_MS
    monkeypatch.setattr(housekeeping, "FOLD_SIDECAR_BYTES", 0)
    asyncio.run(fold(old, later))
    assert old.ask("select count(*) from documents where folded_version > 0")[0][0] > 0
    folded = old.documents(ADA)
    bring_all(old, clock=lambda: later)
    assert old.documents(ADA) == folded
    old.sql(f"update user_stats set xp = 170, \"updatedAt\" = {NOW}::timestamptz + '1 day'")
    old.bring_in("user_stats")
    assert old.documents(ADA)["user_stats"]["xp"] == folded["user_stats"]["xp"] + 20


async def fold(world: World, before_ms: int) -> None:
    """What housekeeping does once a day, when no device was seen since."""
    async with another_process(Service("", world.new)) as (database, documents):
        await housekeeping.fold(database, documents, before_ms)


def test_a_source_that_goes_on_counting_is_set_and_not_added(old: World) -> None:
    """The old app may live on for a while: its counts move, and the import follows them."""
    bring_all(old)
    old.sql(
        f"""
        update user_stats set xp = 190, hearts = 2, "updatedAt" = {NOW}::timestamptz + '1 hour';
        update xp_totals set total_xp = 1300;
        """
    )
    bring_all(old)
    stats = old.documents(ADA)["user_stats"]
    assert (stats["xp"], stats["hearts"]) == (190, 2)
    assert old.documents(ADA)["totals"]["xp"] == 1300


def test_a_row_dated_in_the_future_does_not_win_over_edits(old: World) -> None:
    """A clock that was wrong in the old system must not make its values unassailable."""
    old.sql("update user_sync_data set updated_at = '2999-01-01'")
    old.bring_in("user_sync_data")
    with serving(old.new) as service:
        put(service, ADA, "settings", 0, {"theme": "light"})
    assert old.documents(ADA)["settings"]["theme"] == "light"


def test_two_accounts_that_become_one_keep_both_counts(old: World) -> None:
    """The same source brought both, and each counted for itself."""
    bring_all(old)
    (ada, ben) = old.ask(
        "select sidecar, value::text, rule from documents where key = 'game_stats' order by account"
    )
    states = [decode(GAME_STATS, Stored(row[1].encode(), row[0])) for row in (ada, ben)]
    assert GAME_STATS.value(GAME_STATS.join(*states))["games_played"] == 14


def test_a_document_that_is_never_merged_is_left_alone(old: World, tmp_path: Any) -> None:
    """Under `strict` nothing may be joined: what is there stands, and the row is told."""
    rules = tmp_path / "my_rules.py"
    rules.write_text(
        "from merge_rules import strict\ndef register(r):\n    r.register('plain', strict)\n"
    )
    settings = {"rules": str(rules)}
    with serving(old.new, **settings) as service:
        put(service, ADA, "plain", 0, "as it is now")
    done = old.bring_in("user_sync_data", settings=settings)
    assert done.codes == ["conflict"]
    assert old.documents(ADA)["plain"] == "as it is now"
    assert old.documents(BEN)["plain"] == "as it was"
