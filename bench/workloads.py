"""What is measured: the requests of each workload, and the share of pgbench's rate aimed at.

Versions are predicted: the generator alone writes these documents, so each accepted write
raises the version by one. What the service made of them is counted in the database
afterwards. The marks in a body, filled in for a document at version v, where a stale write
names the version before:

    @b  the base: v, or v - 1 if stale        @n  v + 1
    @s  what the base's counter becomes: @b + 1
    @d  the device: v modulo 2                @i  v + 1 as 8 hexadecimal digits, for an id
    @e  the era, as a cursor begins           @c  the sequence after v such requests, as it ends
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

KEYS = ("user_stats", "lesson_progress", "settings")
LESSONS = 25
LESSON_KEYS = tuple(f"lesson:{number:02}" for number in range(1, LESSONS + 1))
_SHUFFLE = 20261121

_STATS = (
    '{"xp":@s0,"hearts":5,"diamonds":120,"completed_questions":@s0,"correct_answers":@s0,'
    '"wrong_answers":31,"total_questions":@s0,"total_time_spent":86400,"level":@n,'
    '"max_streak":14,"display_name":"Ada Lovelace","favourite_subject":"mathematics",'
    '"daily_goal_minutes":20,"last_unit":"fractions-and-decimals-3"}'
)
_PROGRESS = (
    '{"unlocked_count":@n,"best_stars":{"fractions-1":3,"fractions-2":2,"fractions-3":3,'
    '"decimals-1":1,"decimals-2":@n},"completed":["fractions-1","fractions-2","fractions-3",'
    '"decimals-1"],"current_unit":"decimals-2","current_question":@n,'
    '"note":"repeat the reading of long decimals tomorrow morning"}'
)
_SETTINGS = (
    '{"ai_themes":{"space":true,"sports":false,"music":@n},"language":"en-GB","sound":true,'
    '"haptics":false,"reminder":"18:30","font_scale":1.2,"theme":"dark","opened":@n,'
    '"greeting":"Welcome back, and well done for the long streak","avatar":"owl-with-a-hat",'
    '"privacy":{"leaderboard":true,"friends":false}}'
)
_LESSON = (
    '{"is_completed":true,"last_attempted":@n,"questions":[4,8,15,16,23,42],'
    '"answers":["three quarters","0.75","6/8","seventy-five hundredths"],"attempts":@n,'
    '"hint":"a fraction stays the same when both parts are multiplied alike",'
    '"author":"the mathematics team","locale":"en-GB"}'
)
VALUES = (_STATS, _PROGRESS, _SETTINGS)

GROWTH_KEYS = (*KEYS, *LESSON_KEYS[: LESSONS - len(KEYS)])
"""The documents of an account where growth is measured: 25."""
GROWTH_VALUES = (*VALUES, *(_LESSON for _ in GROWTH_KEYS[len(KEYS) :]))


@dataclass(frozen=True)
class Workload:
    """`documents`: in one request; `share`: aimed at, of the rate of `reference`."""

    name: str
    meaning: str
    reference: str
    share: float | None
    documents: int = 1
    stale: bool = False
    bodies: tuple[str, ...] = ()
    keys: tuple[str, ...] = KEYS
    outcome: str | None = None
    """What nearly every write must come to; None where nothing is written."""

    @property
    def prefix(self) -> str:
        """What the names of its accounts begin with."""
        return "class" if self.keys is LESSON_KEYS else "player"


@dataclass(slots=True)
class Item:
    """One request to be sent over and over; `body` is an index, None without a body."""

    method: str
    path: str
    token: str
    body: int | None
    version: int


@dataclass(frozen=True)
class Plan:
    """Requests in the order in which they are sent, again and again from the start."""

    items: Sequence[Item]
    bodies: Sequence[str]
    stale: int
    documents: int = 1
    """In one request: so much further the cursor of a device is with each."""


def _put(device: str, *, with_id: bool = False) -> tuple[str, ...]:
    ids = [f'"id":"@i-000{number}-7000-8000-00000000b15e",' for number in range(len(KEYS))]
    return tuple(
        f'{{{identity if with_id else ""}"base":@b,"device":"{device}","value":{value}}}'
        for identity, value in zip(ids, VALUES, strict=True)
    )


def _push(keys: Sequence[str], values: Sequence[str], *, cursor: str = "") -> str:
    mutations = (
        f'{{"id":"@i-{number:04x}-7000-8000-00000000b15f","op":"put","key":"{key}","base":@b,'
        f'"value":{value}}}'
        for number, (key, value) in enumerate(zip(keys, values, strict=True))
    )
    return f'{{"device":"tablet",{cursor}"mutations":[{",".join(mutations)}]}}'


SYNC_LESSONS = _push(LESSON_KEYS, [_LESSON] * LESSONS)
SYNC_LESSONS_ON_CURSOR = _push(LESSON_KEYS, [_LESSON] * LESSONS, cursor='"cursor":"@e@c",')
"""By a device that is up to date."""
SYNC_KEYS = _push(KEYS, VALUES)

WORKLOADS = (
    Workload(
        "W1",
        "one document a request, on its current version",
        "upsert",
        0.36,
        bodies=_put("tablet"),
        outcome="applied",
    ),
    Workload(
        "W1-id",
        "the same, each write with an id that makes it count once",
        "upsert",
        None,
        bodies=_put("tablet", with_id=True),
        outcome="applied",
    ),
    Workload(
        "W1-merge",
        "one document a request, two devices that never saw each other's last write",
        "upsert",
        None,
        stale=True,
        bodies=_put("phone-@d"),
        outcome="merged",
    ),
    Workload("R1", "read one document", "read", 0.15),
    Workload(
        "B1",
        f"{LESSONS} documents of one account a request, by POST /v1/sync",
        "batch",
        0.31,
        documents=LESSONS,
        bodies=(SYNC_LESSONS_ON_CURSOR,),
        keys=LESSON_KEYS,
        outcome="applied",
    ),
)
MERGE_SHARE = 0.8
"""W1-merge is to reach this share of W1."""


def account_names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:05}" for number in range(count)]


def plan(
    work: Workload, tokens: Mapping[str, str], versions: Mapping[tuple[str, str], int], era: str
) -> Plan:
    """The requests over all documents, shuffled, at the versions that the database holds."""
    if work.documents > 1:
        items = [
            Item("POST", "/v1/sync", token, 0, versions[account, work.keys[0]])
            for account, token in tokens.items()
        ]
    else:
        items = [
            Item(
                "PUT" if work.bodies else "GET",
                f"/v1/documents/{key}",
                token,
                index if work.bodies else None,
                versions[account, key],
            )
            for index, key in enumerate(work.keys)
            for account, token in tokens.items()
        ]
    Random(_SHUFFLE).shuffle(items)
    # Nine letters are twelve in base 64, so what follows them is encoded by itself.
    begun = urlsafe_b64encode(f"{era}.".encode()).decode()
    bodies = [body.replace("@e", begun) for body in work.bodies]
    return Plan(items, bodies, int(work.stale), work.documents)


def seed_plan(body: str, tokens: Mapping[str, str]) -> Plan:
    """Creates the documents: one sync an account."""
    items = [Item("POST", "/v1/sync", token, 0, 0) for token in tokens.values()]
    return Plan(items, [body], 0)
