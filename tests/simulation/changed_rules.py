"""The rules that a deployment changes to in the middle of a run: the first ones, written anew.

Fields keep what they amount to, so that the same oracles hold before and after.
"""

from merge_rules import (
    Registry,
    causal_set,
    flag,
    last_write_wins,
    map_of,
    maximum,
    record,
    resettable,
)
from merge_rules.documents import GAME_STATS, LESSON_PROGRESS, USER_STATS
from tests.simulation.first_rules import TALLY


def register(registry: Registry) -> None:
    """What `SYNCLINE_RULES` names, on the services that run after the change."""
    removable = map_of(maximum, removable=True)
    registry.register("game_stats", record({**GAME_STATS.fields, "best_scores": removable}))
    sets = {**LESSON_PROGRESS.fields, "completed": causal_set}
    registry.register("lesson_progress", record(sets))
    themes = map_of(last_write_wins, removable=True)
    registry.register("settings", record({"ai_themes": themes, "theme": last_write_wins}))
    registry.register("user_stats", record({**USER_STATS.fields, "best_day": maximum}))
    lesson = record({"is_completed": flag, "last_attempted": maximum})
    registry.register("lesson:*", resettable(lesson))
    registry.register("note", record({}))
    registry.register("tally", record({**TALLY, "last": maximum}))
