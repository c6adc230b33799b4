"""The rules that ship registered, for the documents of the apps that Syncline grew from."""

from merge_rules.collection import map_of, union
from merge_rules.counter import counter
from merge_rules.record import record
from merge_rules.register import last_write_wins
from merge_rules.registry import Registry
from merge_rules.scalar import flag, maximum

GAME_STATS = record(
    {
        "score": maximum,
        "longest_streak": maximum,
        "incorrect_answers": counter,
        "correct_answers": counter,
        "games_played": counter,
        "best_scores": map_of(maximum),
    }
)

LESSON_PROGRESS = record(
    {"unlocked_count": maximum, "best_stars": map_of(maximum), "completed": union}
)

SETTINGS = record({"ai_themes": map_of(last_write_wins, removable=True)})

USER_STATS = record(
    {
        "xp": counter,
        "hearts": counter,
        "diamonds": counter,
        "completed_questions": counter,
        "correct_answers": counter,
        "wrong_answers": counter,
        "total_questions": counter,
        "total_time_spent": counter,
        "level": maximum,
        "max_streak": maximum,
    }
)

PLAYER = record(
    {"display_name": last_write_wins, "avatar": last_write_wins, "listed": last_write_wins}
)

LESSON = record({"is_completed": flag, "last_attempted": maximum})


def shipped_registry() -> Registry:
    """A registry with the shipped rules, each of which an app may replace."""
    registry = Registry()
    registry.register("game_stats", GAME_STATS)
    registry.register("lesson_progress", LESSON_PROGRESS)
    registry.register("settings", SETTINGS)
    registry.register("user_stats", USER_STATS)
    registry.register("player", PLAYER)
    registry.register("lesson:*", LESSON)
    registry.seal_shipped()
    return registry
