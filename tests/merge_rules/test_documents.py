"""The rules that ship: fields as in the design, and one merge each as an app would see it."""

from typing import Any

import pytest

from merge_rules import Rule, last_write_wins
from merge_rules.documents import shipped_registry
from merge_rules.testing import Server

SHIPPED = {
    "game_stats": (
        "record({'best_scores': map_of(maximum), 'correct_answers': counter, "
        "'games_played': counter, 'incorrect_answers': counter, 'longest_streak': maximum, "
        "'score': maximum}, last_write_wins)"
    ),
    "lesson_progress": (
        "record({'best_stars': map_of(maximum), 'completed': union, 'unlocked_count': maximum}, "
        "last_write_wins)"
    ),
    "settings": "record({'ai_themes': map_of(last_write_wins, removable=True)}, last_write_wins)",
    "user_stats": (
        "record({'completed_questions': counter, 'correct_answers': counter, "
        "'diamonds': counter, 'hearts': counter, 'level': maximum, 'max_streak': maximum, "
        "'total_questions': counter, 'total_time_spent': counter, 'wrong_answers': counter, "
        "'xp': counter}, last_write_wins)"
    ),
    "player": (
        "record({'avatar': last_write_wins, 'display_name': last_write_wins, "
        "'listed': last_write_wins}, last_write_wins)"
    ),
    "lesson:*": "record({'is_completed': flag, 'last_attempted': maximum}, last_write_wins)",
}


def rule_for(key: str) -> Rule:
    return shipped_registry().rule_for(key)


def test_the_shipped_rules_are_those_of_the_design() -> None:
    """The apps that Syncline replaces rely on these fields; one wrong word loses scores."""
    registered = shipped_registry().registered()
    assert {key: rule.describe() for key, rule in registered.items()} == SHIPPED


@pytest.mark.parametrize("key", ["anything", "lesson", "lessons:1", "game_stats2", "Settings"])
def test_every_other_key_is_kept_whole_by_its_last_writer(key: str) -> None:
    """A document without a rule of its own must not be taken apart by a neighbour's."""
    assert rule_for(key) is last_write_wins


@pytest.mark.parametrize("key", ["lesson:1", "lesson:th1:st2", "lesson:"])
def test_every_lesson_has_the_lesson_rule(key: str) -> None:
    """One document a thread and stitch, under keys that the app makes up."""
    assert rule_for(key).describe() == SHIPPED["lesson:*"]


def merged(key: str, base: Any, phone: Any, tablet: Any) -> Any:
    """The value after two devices edited one base, the tablet later but first to sync."""
    rule = rule_for(key)
    server = Server(rule, [rule.advance(rule.bottom, base, (1, 0, "phone"))])
    server.put("tablet", 0, base | tablet, (20, 0, "tablet"))
    server.put("phone", 0, base | phone, (10, 0, "phone"))
    return rule.value(server.current)


def test_game_stats_of_two_devices() -> None:
    """Two offline games: the best score stands, both games count, the later streak is current."""
    assert merged(
        "game_stats",
        {"score": 5, "games_played": 1, "current_streak": 1, "best_scores": {"easy": 5}},
        {"score": 9, "games_played": 2, "current_streak": 2, "best_scores": {"easy": 9}},
        {"score": 7, "games_played": 3, "current_streak": 0, "best_scores": {"hard": 7}},
    ) == {
        "score": 9,
        "games_played": 4,
        "current_streak": 0,
        "best_scores": {"easy": 9, "hard": 7},
    }


def test_lesson_progress_of_two_devices() -> None:
    """What either device unlocked or completed stays so."""
    assert merged(
        "lesson_progress",
        {"unlocked_count": 2, "completed": ["l1"], "best_stars": {"l1": 1}, "current": "l2"},
        {"unlocked_count": 3, "completed": ["l1", "l2"], "best_stars": {"l1": 1, "l2": 3}},
        {"completed": ["l3"], "best_stars": {"l1": 2}, "current": "l3"},
    ) == {
        "unlocked_count": 3,
        "completed": ["l1", "l2", "l3"],
        "best_stars": {"l1": 2, "l2": 3},
        "current": "l3",
    }


def test_settings_of_two_devices() -> None:
    """A theme deleted on one device stays deleted, one made on the other stays made."""
    assert merged(
        "settings",
        {"theme": "dark", "sound": True, "ai_themes": {"old": 1, "kept": 1}},
        {"theme": "light", "ai_themes": {"kept": 1, "phone": 1}},
        {"theme": "blue", "sound": False, "ai_themes": {"old": 1, "kept": 2}},
    ) == {"theme": "blue", "sound": False, "ai_themes": {"kept": 2, "phone": 1}}


def test_user_stats_of_two_devices() -> None:
    """XP earned and hearts lost on both devices all count; a level is never taken back."""
    assert merged(
        "user_stats",
        {"xp": 100, "hearts": 5, "level": 3, "name": "Ann"},
        {"xp": 110, "hearts": 4, "level": 4},
        {"xp": 130, "hearts": 3, "name": "Anna"},
    ) == {"xp": 140, "hearts": 2, "level": 4, "name": "Anna"}


def test_a_lesson_of_two_devices() -> None:
    """Completed once is completed, and the latest attempt is the latest."""
    assert merged(
        "lesson:t1:s1",
        {"is_completed": False, "last_attempted": 5, "order_number": 1, "skip_number": 3},
        {"is_completed": True, "last_attempted": 9, "order_number": 4},
        {"last_attempted": 7, "order_number": 2, "skip_number": 10},
    ) == {"is_completed": True, "last_attempted": 9, "order_number": 2, "skip_number": 10}


def test_a_player_of_two_devices() -> None:
    """A new name on one device must not put a player back on the boards that left on another."""
    assert merged(
        "player",
        {"display_name": "Ada", "avatar": "fox", "listed": True},
        {"display_name": "Ada L.", "avatar": "fox", "listed": True},
        {"display_name": "Ada", "avatar": "owl", "listed": False},
    ) == {"display_name": "Ada L.", "avatar": "owl", "listed": False}


def test_an_unnamed_document_of_two_devices() -> None:
    """Without a rule the later edit stands whole."""
    rule = rule_for("notes")
    early = rule.advance(None, {"a": 1}, (1, 0, "a"))
    phone = rule.advance(early, {"a": 2}, (10, 0, "phone"))
    tablet = rule.advance(early, {"a": 3, "b": 1}, (20, 0, "tablet"))
    assert rule.value(rule.join(tablet, phone)) == {"a": 3, "b": 1}
