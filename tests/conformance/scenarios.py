"""What the vectors show: for each rule a base, two writes that did not see each other, and why."""

from dataclasses import dataclass, field
from typing import Any

from merge_rules import (
    Rule,
    best,
    causal_set,
    counter,
    days,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    record,
    resettable,
    samples,
    union,
)
from merge_rules.canonical import MAX_INTEGER
from merge_rules.documents import GAME_STATS, LESSON, LESSON_PROGRESS, PLAYER, SETTINGS, USER_STATS
from merge_rules.rule import ABSENT, Operation, OperationName

NOW = 1_764_000_000_000


@dataclass(frozen=True)
class Write:
    """A whole document or operations, made by a device that saw the base."""

    device: str
    at: int
    value: Any = ABSENT
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """`base` is what a device named `base` wrote before, one value after the other."""

    name: str
    why: str
    rule: Rule
    one: Write
    two: Write
    base: tuple[Any, ...] = field(default=())


def one(value: Any, at: int = NOW, device: str = "a") -> Write:
    return Write(device, at, value)


def two(value: Any, at: int = NOW + 1, device: str = "b") -> Write:
    return Write(device, at, value)


def operation(op: OperationName, *path: str, value: Any = ABSENT) -> Operation:
    return Operation(op, path, value)


def operating(device: str, at: int, *operations: Operation) -> Write:
    return Write(device, at, operations=operations)


_TIE = "equal times: the device decides, and after it the greater canonical bytes"

SCENARIOS = (
    # last write wins
    Scenario("lww-later", "the later edit wins", last_write_wins, one(1), two(2), (0,)),
    Scenario("lww-tie", _TIE, last_write_wins, one("x", NOW), two("w", NOW), ("v",)),
    Scenario("lww-same-stamp", _TIE, last_write_wins, one([2]), two([10], NOW, "a"), ()),
    Scenario(
        "lww-slow-clock",
        "an edit is stamped past the base that it saw, however slow the clock",
        last_write_wins,
        one("edited", 5),
        two("base"),
        ("base",),
    ),
    Scenario("lww-null", "null is a value", last_write_wins, one(None), two(0, 1), (1,)),
    Scenario("lww-float", "1 and 1.0 are two values", last_write_wins, one(1.0), two(1, 1), (1,)),
    Scenario("lww-bool", "true is not 1", last_write_wins, one(True), two(1, 1), (1,)),
    # numbers and flags
    Scenario("maximum", "the greatest number", maximum, one(7), two(6), (5,)),
    Scenario("maximum-forms", "equal numbers: the greater bytes", maximum, one(1), two(1.0), ()),
    Scenario("maximum-large", "exact up to 2^53 - 1", maximum, one(MAX_INTEGER), two(9e15), (0,)),
    Scenario("minimum", "the least number", minimum, one(-1.5), two(-1), (5,)),
    Scenario("flag", "once true, true", flag, one(True), two(False), (False,)),
    Scenario(
        "best",
        "the whole object with the greatest number",
        best("score"),
        one({"score": 9, "by": "a"}),
        two({"score": 9, "by": "b"}),
        ({"score": 3, "by": "c"},),
    ),
    # counters
    Scenario("counter", "what each device added adds up", counter, one(7), two(4), (5,)),
    Scenario("counter-twice", "the same sum from two devices", counter, one(6), two(6), (5,)),
    Scenario(
        "counter-large",
        "the sum is held within 2^53 - 1",
        counter,
        one(MAX_INTEGER),
        two(MAX_INTEGER),
        (1,),
    ),
    Scenario("counter-negative", "it may go below zero", counter, one(-3), two(0), (2, 1)),
    # sets
    Scenario(
        "union", "everything that was added", union, one(["b", 1]), two([True, "b"]), (["a"],)
    ),
    Scenario(
        "union-unicode",
        "items are in the order of their UTF-8 bytes, beyond the basic plane too",
        union,
        one(["\U0001f600", "\ufffd"]),
        two(["é", "e\u0301", "\u2028"]),
        (),
    ),
    Scenario(
        "causal-set",
        "removed by one, kept by the other: the removal stands",
        causal_set,
        one(["y"]),
        two(["x", "y", "z"]),
        (["x", "y"],),
    ),
    Scenario(
        "causal-set-again",
        "what was taken away and brought back outlives a removal that saw less",
        causal_set,
        one(["x"]),
        two([]),
        (["x"], [], ["x"]),
    ),
    # maps and records
    Scenario(
        "map-left-out",
        "a key that is left out is unchanged",
        map_of(maximum),
        one({"l1": 3}),
        two({"l2": 2}),
        ({"l1": 1, "l2": 1},),
    ),
    Scenario(
        "map-unicode-keys",
        "keys are sorted by UTF-8 bytes, which is not the order of UTF-16",
        map_of(last_write_wins),
        one({"\U0001f600": 1, "\uff5e": 2}),
        two({"\U0001f600": 3, "": 0}),
        (),
    ),
    Scenario(
        "removable-map",
        "leaving a key out removes it; the other's edit below it is gone with it",
        map_of(last_write_wins, removable=True),
        one({"space": True}),
        two({"space": True, "music": "loud"}),
        ({"space": True, "music": True},),
    ),
    Scenario(
        "record",
        "each field by its own rule",
        record({"xp": counter, "level": maximum}),
        one({"xp": 15, "level": 3, "name": "Maja"}),
        two({"xp": 12, "level": 2, "mood": None}),
        ({"xp": 10, "level": 2, "name": "M"},),
    ),
    Scenario(
        "nested",
        "rules compose at any depth",
        record({"levels": map_of(record({"tries": counter, "stars": maximum}))}),
        one({"levels": {"1": {"tries": 2, "stars": 3}}}),
        two({"levels": {"1": {"tries": 3, "stars": 1}, "2": {"tries": 1}}}),
        ({"levels": {"1": {"tries": 1, "stars": 1}}},),
    ),
    # derived
    Scenario("samples", "a moving average over both", samples(5, 0.3), one(3.0), two(2.0), (2.5,)),
    Scenario("samples-full", "only the newest count", samples(2, 0.5), one(4), two(8), (1, 2)),
    Scenario(
        "days",
        "two devices used on alternate days make one streak",
        days,
        one("2026-11-20"),
        two(["2026-11-19", "2026-11-21"]),
        ("2026-11-18",),
    ),
    Scenario(
        "days-gap",
        "the longest streak stays",
        days,
        one("2026-03-01"),
        two("2028-02-29"),
        (["2026-02-27", "2026-02-28"],),
    ),
    Scenario(
        "resettable",
        "without a reset it is the rule inside",
        resettable(counter),
        one(6),
        two(8),
        (5,),
    ),
    # operations
    Scenario(
        "reset",
        "a reset beats what had not seen it",
        record({"hearts": resettable(counter)}),
        operating(
            "a", NOW, operation("reset", "hearts"), operation("increment", "hearts", value=3)
        ),
        two({"hearts": 9}),
        ({"hearts": 5},),
    ),
    Scenario(
        "operations",
        "each operation contributes what it changes, and nothing else",
        record({"xp": counter, "seen": causal_set, "level": maximum}),
        operating(
            "a",
            NOW,
            operation("increment", "xp", value=-2),
            operation("remove", "seen", value="intro"),
            operation("maximum", "level", value=4),
            operation("set", "profile", "names", "0", value="Maja"),
        ),
        operating(
            "b",
            NOW + 1,
            operation("add", "seen", value="outro"),
            operation("unset", "draft"),
            operation("minimum", "best_time", value=12.5),
        ),
        ({"xp": 10, "seen": ["intro"], "level": 2, "draft": "x", "profile": {"names": ["M"]}},),
    ),
    # the documents that ship
    Scenario(
        "game_stats",
        "a document that ships registered",
        GAME_STATS,
        one({"score": 120, "games_played": 4, "best_scores": {"quiz": 7}, "current_streak": 2}),
        two({"score": 90, "games_played": 6, "best_scores": {"quiz": 5, "maze": 1}}),
        ({"score": 80, "games_played": 3, "best_scores": {"quiz": 5}},),
    ),
    Scenario(
        "settings",
        "a document that ships registered",
        SETTINGS,
        one({"theme": "dark", "ai_themes": {"space": True}}, NOW - 86_400_000),
        two({"theme": "light", "sound": False, "ai_themes": {}}),
        ({"theme": "blue", "sound": True, "ai_themes": {"music": True}},),
    ),
    Scenario(
        "lesson_progress",
        "a document that ships registered",
        LESSON_PROGRESS,
        one({"unlocked_count": 5, "best_stars": {"l1": 2}, "completed": ["l1", "l2"]}),
        two({"unlocked_count": 4, "best_stars": {"l1": 3, "l3": 1}, "completed": ["l3"]}),
        ({"unlocked_count": 3, "best_stars": {"l1": 2}, "completed": ["l1"]},),
    ),
    Scenario(
        "user_stats",
        "a document that ships registered",
        USER_STATS,
        one({"xp": 1510, "hearts": 4, "max_streak": 9, "display_name": "Ada"}),
        two({"xp": 1490, "hearts": 5, "max_streak": 8, "display_name": "Ada L."}),
        ({"xp": 1500, "hearts": 5, "max_streak": 8, "display_name": "Ada"},),
    ),
    Scenario(
        "player",
        "a document that ships registered",
        PLAYER,
        one({"display_name": "Ada L.", "avatar": "fox", "listed": True}),
        two({"display_name": "Ada", "listed": False}),
        ({"display_name": "Ada", "avatar": "fox", "listed": True},),
    ),
    Scenario(
        "lesson",
        "a document that ships registered",
        LESSON,
        one({"is_completed": True, "last_attempted": 5, "order_number": 1}),
        two({"is_completed": False, "last_attempted": 9, "order_number": 2}),
        ({"is_completed": False, "last_attempted": 4, "order_number": 1},),
    ),
)
