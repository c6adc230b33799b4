"""Each shipped mapping, from real tables as the old systems made them."""

import pytest

from app.operations.importing.mapping import load_mapping, shipped
from tests.conftest import serving
from tests.importing.tables import TABLES
from tests.importing.world import World

ADA = "11111111-2222-4333-8444-555555555555"
BEN = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
NOW = "'2025-03-01 12:00:00+00'"
NOW_MS = 1_740_830_400_000


@pytest.fixture
def old(both_versions: World) -> World:
    both_versions.sql(TABLES)
    return both_versions


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_mapping_reads_its_table(old: World, name: str) -> None:
    """A mapping that names a column which the table never had is found on the first evening of
    the move."""
    done = old.bring_in(name)
    assert done.complete
    assert "0 rows of" in done.said
    assert load_mapping(name).description


def test_one_row_with_all_data_becomes_a_document_for_each_key(old: World) -> None:
    """Version 1 of each, merged by its own rule from then on."""
    old.sql(
        f"""
        insert into user_sync_data values ('{ADA}', '{{
            "game_stats": {{"score": 90, "games_played": 7, "best_scores": {{"quiz": 4}}}},
            "settings": {{"theme": "dark", "ai_themes": {{"sea": {{"hue": 3}}}}}},
            "lesson_progress": {{"unlocked_count": 3, "completed": ["a", "b"]}},
            "nothing": null
        }}', {NOW});
        """
    )
    done = old.bring_in("user_sync_data")
    assert done.complete
    assert old.documents(ADA) == {
        "game_stats": {"score": 90, "games_played": 7, "best_scores": {"quiz": 4}},
        "settings": {"theme": "dark", "ai_themes": {"sea": {"hue": 3}}},
        "lesson_progress": {"unlocked_count": 3, "completed": ["a", "b"]},
    }
    rows = old.ask("select key, version, device from documents")
    assert {(row["version"], row["device"]) for row in rows} == {(1, "import:user_sync_data")}
    assert "Left out: created_at" in done.said


def test_a_column_for_each_key_does_as_well(old: World) -> None:
    """Some had columns of their own for the three documents, as text or as JSON."""
    old.sql(
        f"""
        drop table user_sync_data;
        create table user_sync_data (user_id text primary key, game_stats text, settings json);
        insert into user_sync_data values ('{ADA}', '{{"score": 5}}', '{{"theme": "dark"}}');
        insert into user_sync_data values ('{BEN}', null, '{{"theme": "light"}}');
        """
    )
    assert old.bring_in("user_sync_data").complete
    assert old.documents(ADA) == {"game_stats": {"score": 5}, "settings": {"theme": "dark"}}
    assert old.documents(BEN) == {"settings": {"theme": "light"}}


def test_rows_by_key_become_documents(old: World) -> None:
    """The table of the second version has one row a key."""
    old.sql(
        f"""
        insert into user_sync_data_v2 (user_id, data_key, data, version)
        values ('{ADA}', 'settings', '{{"theme": "dark"}}', 17), ('{ADA}', 'notes', '[1, 2.50]', 2);
        """
    )
    assert old.bring_in("user_sync_data_v2").complete
    assert old.documents(ADA) == {"settings": {"theme": "dark"}, "notes": [1, 2.5]}


def test_user_stats_take_their_new_names(old: World) -> None:
    """camelCase became snake_case, and the rules go by those names."""
    old.sql(
        f"""
        insert into user_stats values ('u1', 150, 5, 25, 3, 7, 85, 12, 50, 43, 7, 50,
            '[2.5, 3.1]', 150, '{{"won": true}}', {NOW});
        """
    )
    assert old.bring_in("user_stats").complete
    assert old.documents("u1")["user_stats"] == {
        "xp": 150,
        "hearts": 5,
        "diamonds": 25,
        "level": 3,
        "streak": 7,
        "accuracy": 85,
        "max_streak": 12,
        "completed_questions": 50,
        "correct_answers": 43,
        "wrong_answers": 7,
        "total_questions": 50,
        "time_per_question": [2.5, 3.1],
        "total_time_spent": 150,
        "last_game_results": {"won": True},
    }


def test_progress_opens_the_totals_by_greatest(old: World) -> None:
    """`student_progress` and `xp_totals` tell of the same points: the greater one counts, once."""
    old.sql(
        f"""
        insert into student_progress (student_id, word_set_id, homework_id, total_points,
                                      games_played, last_game_type, last_played_at)
        values ('{ADA}', null, null, 900, 12, 'quiz', {NOW}),
               ('{ADA}', gen_random_uuid(), null, 5000, 1, 'quiz', {NOW}),
               ('{ADA}', null, gen_random_uuid(), 5000, 1, 'quiz', {NOW}),
               ('{BEN}', null, null, null, null, null, null);
        insert into xp_totals values ('{ADA}', 1200, 10, 'quiz', {NOW});
        """
    )
    for name in ("xp_totals", "student_progress", "xp_totals"):
        assert old.bring_in(name).complete
    assert old.documents(ADA)["totals"] == {
        "xp": 1200,
        "points": 0,
        "games_played": 12,
        "events": 2,
    }
    assert old.documents(BEN) == {}
    assert old.adds_up()


def test_xp_events_keep_their_ids_and_are_not_counted_beside_their_total(old: World) -> None:
    """The total of the old system is the sum of its log and of what came before it."""
    old.sql(
        f"""
        insert into xp_events select gen_random_uuid(), '{ADA}', 100, 'quiz', {NOW}
        from generate_series(1, 7);
        insert into xp_totals values ('{ADA}', 1000, 10, 'quiz', {NOW});
        """
    )
    assert old.bring_in("xp_events").complete
    assert old.documents(ADA)["totals"]["xp"] == 700
    assert old.bring_in("xp_totals").complete
    assert old.documents(ADA)["totals"]["xp"] == 1000
    ids = {row[0] for row in old.sql("select id from xp_events")}
    assert ids == {row[0] for row in old.ask("select id from events where type = 'xp'")}
    (row,) = old.ask("select distinct payload::text, occurred_at_ms from events where type = 'xp'")
    assert tuple(row) == ('{"amount":100,"game":"quiz"}', NOW_MS)
    assert old.adds_up()


@pytest.mark.parametrize(
    "order", [("profiles", "session_results"), ("session_results", "profiles")]
)
def test_profiles_and_sessions_come_to_the_same_in_either_order(
    old: World, order: tuple[str, str]
) -> None:
    """The points of a profile are those of its sessions, and of older ones that are gone."""
    old.sql(
        f"""
        insert into profiles (id, display_name, total_points, avg_blink_speed, evolution_level,
            total_sessions, streak_days, last_session_date, stripe_customer_id, updated_at)
        values ('{ADA}', 'Ada', 500, 2.0, 3, 9, 4, {NOW}, 'cus_1', {NOW}),
               ('{BEN}', null, 0, 2.5, 1, 0, 0, null, null, {NOW});
        insert into session_results (id, user_id, thread_id, stitch_id, total_questions,
            correct_answers, total_points, blink_speed, completed_at, results)
        values ('session-1', '{ADA}', 'T1', 'S1', 10, 8, 120, 1.5,
                '2023-02-27 10:00:00+00', '[{{"q": 1}}]'),
               ('session-2', '{ADA}', 'T1', 'S2', 10, 9, 130, 0, {NOW}, '[]');
        """
    )
    for name in order:
        done = old.bring_in(name)
        assert done.complete, done.said
    documents = old.documents(ADA)
    assert documents["player"] == {"display_name": "Ada"}
    assert documents["totals"]["points"] == 500
    profile = documents["profile"]
    assert profile["total_points"] == 500
    assert profile["total_sessions"] == 9
    assert profile["evolution_level"] == 3
    assert profile["blink_speed"] == pytest.approx(0.7 * 2.0 + 0.3 * 1.5)
    assert profile["streak"] == {"current": 4, "longest": 4, "total": 5, "last": "2025-03-01"}
    assert profile["last_session"]["points"] == 130
    assert profile["last_session"]["completed_at"] == NOW_MS
    assert set(old.documents(BEN)) == {"profile", "totals"}
    assert old.adds_up()


def test_the_dashboard_shows_what_was_brought(old: World) -> None:
    """The first screen of the new app looks as the last one of the old app did."""
    old.sql(
        f"""
        insert into profiles (id, display_name, total_points, avg_blink_speed, evolution_level,
            total_sessions) values ('{ADA}', 'Ada', 500, 2.0, 3, 9);
        insert into session_results (id, user_id, thread_id, stitch_id, total_questions,
            correct_answers, total_points, completed_at)
        select 's' || n, '{ADA}', 'T1', 'S' || n, 10, n, 10,
            timestamptz '2024-02-01 10:00:00+00' + n * interval '1 day'
            from generate_series(1, 7) n;
        insert into user_stitch_progress (user_id, thread_id, stitch_id, is_completed)
            values ('{ADA}', 'T1', 'S1', true), ('{ADA}', 'T1', 'S2', false);
        """
    )
    for name in ("session_results", "profiles", "user_stitch_progress"):
        assert old.bring_in(name).complete
    with serving(old.new) as service, service.client(ADA) as client:
        answer = client.get("/v1/dashboard")
        assert answer.status_code == 200, answer.text
        shown = answer.json()
    assert shown["profile"]["display_name"] == "Ada"
    assert shown["profile"]["total_points"] == 500
    assert shown["profile"]["total_sessions"] == 9
    assert shown["profile"]["evolution_level"] == 3
    assert shown["progress"] == {"total_stitches_completed": 1, "thread_progress": {"T1": 1}}
    recent = [(one["stitch"], one["accuracy"]) for one in shown["recent_sessions"]]
    assert recent == [("S7", 70), ("S6", 60), ("S5", 50), ("S4", 40), ("S3", 30)]


def test_what_has_no_home_is_told(old: World) -> None:
    """The ids of payments go nowhere by themselves, and never in silence."""
    old.sql(f"insert into profiles (id, stripe_customer_id) values ('{ADA}', 'cus_1');")
    said = old.bring_in("profiles").said
    assert "Left out: stripe_customer_id, in 1 rows" in said
    assert "Left out: subscription_id" not in said


def test_stitches_become_lessons(old: World) -> None:
    """One document for each thread and stitch, under its own rule."""
    old.sql(
        f"""
        insert into user_stitch_progress values
            ('anon-7', 'T1', 'S1', 4, 10, 'L2', true, true, {NOW}, {NOW}, {NOW}),
            ('anon-7', 'T1:a', 'S2', 4, 10, 'L2', true, true, {NOW}, {NOW}, {NOW}),
            ('anon-7', 'T 1', 'S2', 4, 10, 'L2', true, true, {NOW}, {NOW}, {NOW});
        """
    )
    done = old.bring_in("user_stitch_progress")
    assert old.documents("anon-7") == {
        "lesson:T1:S1": {
            "order_number": 4,
            "skip_number": 10,
            "distractor_level": "L2",
            "is_completed": True,
            "last_attempted": NOW_MS,
        }
    }
    assert sorted(done.codes) == ["ambiguous", "invalid-key"]


def test_users_bring_xp_streak_and_name_and_nothing_of_their_secrets(old: World) -> None:
    """A table of users holds what no report may repeat."""
    old.sql(
        """
        insert into users (email, password_hash, name, avatar, total_xp, streak, last_active_date)
        values ('a@b.c', 'hash-1', 'Ada', 'fox', 300, 3, '2025-03-01'),
               ('d@e.f', 'hash-2', 'Ben', null, -5, 0, null),
               ('g@h.i', 'hash-3', 'Eve', null, 10, 4, null);
        """
    )
    done = old.bring_in("users_total_xp")
    assert old.documents("1")["player"] == {"display_name": "Ada", "avatar": "fox"}
    assert old.documents("1")["totals"]["xp"] == 300
    assert old.documents("1")["profile"]["streak"]["current"] == 3
    assert old.documents("2") == {"player": {"display_name": "Ben"}}
    assert old.documents("3")["totals"]["xp"] == 10
    assert done.codes == ["unreadable", "column-empty"]
    assert "hash-" not in str(done.rejected)
    assert "Left out: password_hash, in 3 rows: the mapping does not name it" in done.said
