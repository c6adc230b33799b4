"""Leaderboards over HTTP: ranks, names, and who sees what."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from app.clock import system_clock
from app.leaderboard.types import BoardAnswer
from app.leaderboard.weeks import week_board
from tests.conftest import ADMIN_TOKEN, Cluster, Service, serving
from tests.leaderboard.lab import UPSERT, Lab

StartService = Callable[..., Service]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[Service]:
    with serving(cluster.clone()) as one:
        yield one


@pytest.fixture
def service(running: Service) -> Service:
    """A service whose boards have nobody on them yet."""

    async def clear() -> None:
        connection = await asyncpg.connect(running.database_url)
        try:
            await connection.execute("truncate boards, standings")
            await connection.execute("delete from documents")
        finally:
            await connection.close()

    asyncio.run(clear())
    return running


def stand(service: Service, scores: Mapping[str, tuple[int, bool]], board: str = "xp") -> None:
    """Commits standings, as the ledger does."""

    async def write() -> None:
        connection = await asyncpg.connect(service.database_url)
        try:
            for account, (score, listed) in scores.items():
                await connection.execute(UPSERT, account, board, score, listed)
        finally:
            await connection.close()

    asyncio.run(write())


def read(service: Service, account: str, board: str = "xp", **query: Any) -> Json:
    with service.client(account) as client:
        answer = client.get(f"/v1/leaderboards/{board}", params=query)
    assert answer.status_code == 200, answer.text
    content: Json = answer.json()
    return content


def player(service: Service, account: str, document: Any) -> None:
    """Commits the document `player`, also one that its rule would refuse."""

    async def write() -> None:
        lab = Lab(service.database_url)
        try:
            await lab.player(account, json.dumps(document))
        finally:
            await lab.close()

    asyncio.run(write())


def ranks(answer: Json) -> list[tuple[int, int, bool]]:
    return [(one["rank"], one["score"], one["me"]) for one in answer["entries"]]


def test_equal_scores_share_a_rank(service: Service) -> None:
    """1, 2, 2, 4: who shares a place takes none from the next."""
    stand(service, {"a": (9, True), "b": (5, True), "c": (5, True), "d": (1, True)})
    answer = read(service, "b")
    assert answer["board"] == "xp"
    assert ranks(answer) == [(1, 9, False), (2, 5, False), (2, 5, True), (4, 1, False)]
    assert answer["me"] == {"rank": 2, "score": 5}


def test_who_is_not_on_the_board(service: Service) -> None:
    """An unlisted player sees its own score, and no rank; nobody else sees anything of it."""
    stand(
        service, {"seen": (3, True), "hidden": (9, False), "none": (0, True), "minus": (-4, True)}
    )
    assert ranks(read(service, "hidden")) == [(1, 3, False)]
    for account, score in (("hidden", 9), ("none", 0), ("minus", -4), ("stranger", 0)):
        assert read(service, account)["me"] == {"rank": None, "score": score}
        assert read(service, account, around="me")["entries"] == []
    assert read(service, "seen")["me"] == {"rank": 1, "score": 3}


def test_the_entries_around_me(service: Service) -> None:
    """As many above as below, with the ranks of the whole board."""
    stand(service, {f"p{n}": (n, True) for n in range(1, 10)})
    answer = read(service, "p5", around="me", limit=5)
    assert ranks(answer) == [
        (3, 7, False),
        (4, 6, False),
        (5, 5, True),
        (6, 4, False),
        (7, 3, False),
    ]
    assert ranks(read(service, "p9", around="me", limit=5)) == [
        (1, 9, True), (2, 8, False), (3, 7, False),
    ]  # fmt: skip
    assert ranks(read(service, "p5", around="me", limit=1)) == [(5, 5, True)]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "$.limit"), ("limit=101", "$.limit"), ("limit=x", "$.limit"),
        ("around=you", "$.around"), ("limit=1&limit=2", "$.limit"), ("more=1", None),
    ],
)  # fmt: skip
def test_a_wrong_query_is_refused(service: Service, query: str, path: str | None) -> None:
    """A limit without a limit would let one request read a million rows."""
    with service.client() as client:
        answer = client.get(f"/v1/leaderboards/xp?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    assert answer.json().get("path") == path


@pytest.mark.parametrize(
    "board",
    ["points", "XP", "xp:", "xp:2026-W00", "xp:2026-W54", "xp:9999-W01", "xp:2020-W01", "%00"],
)
def test_other_boards_do_not_exist(service: Service, board: str) -> None:
    """A board of a week to come, of one that is not kept, or of no week is none."""
    with service.client() as client:
        answer = client.get(f"/v1/leaderboards/{board}")
    assert (answer.status_code, answer.json()["code"]) == (404, "board-not-found")


def test_the_board_of_the_week(service: Service) -> None:
    """This week's board has this week's name, too; last week's can still be read."""
    this, last = (week_board(system_clock(), ago) for ago in (0, 1))
    stand(service, {"a": (5, True)}, this)
    stand(service, {"a": (7, True)}, last)
    stand(service, {"a": (90, True)}, "xp")
    for board, score in (("xp:week", 5), (this, 5), (last, 7), ("xp", 90)):
        answer = read(service, "a", board)
        assert (answer["board"], answer["me"]) == (board, {"rank": 1, "score": score})


def test_players_give_themselves_names(service: Service) -> None:
    """The document `player` says the name and avatar; whatever else is in it stays there."""
    stand(service, {"ada": (5, True), "bob": (4, True)})
    said = {"display_name": "  Ada \u202eLovelace\n ", "avatar": "fox", "email": "ada@x.org"}
    player(service, "ada", said)
    answer = read(service, "bob")
    assert answer["entries"][0] == {
        "rank": 1, "name": "Ada Lovelace", "avatar": "fox", "score": 5, "me": False,
    }  # fmt: skip
    assert answer["entries"][1]["avatar"] is None
    assert "ada@x.org" not in str(answer)


@pytest.mark.parametrize(
    "document",
    [
        5, "x", [], {}, {"display_name": 5, "avatar": ["x"]}, {"display_name": "", "avatar": ""},
        {"display_name": "\u200b \u2066", "avatar": "\t"}, {"display_name": None, "avatar": None},
        {"display_name": "x" * 41, "avatar": "x" * 257}, {"display_name": {"a": 1}},
        {"display_name": "x", "rest": [f"{n:032x}" for n in range(5_000)]},
    ],
)  # fmt: skip
def test_what_is_no_name_counts_as_absent(service: Service, document: Any) -> None:
    """Nothing that a player writes may break the board that others read."""
    stand(service, {"someone": (5, True)})
    named = read(service, "someone")["entries"]
    player(service, "someone", document)
    assert read(service, "someone")["entries"] == named
    assert named[0]["name"].count(" ") == 2


def test_ids_are_shown_to_nobody(service: Service) -> None:
    """An id is what tokens name; whoever knows it knows whose token to look for."""
    stand(service, {"secret-account-one": (5, True), "secret-account-two": (4, True)})
    with service.client("secret-account-two") as client:
        answers = [
            client.get(f"/v1/leaderboards/{path}")
            for path in ("xp", "xp?around=me", "xp?limit=0", "nothing", "xp:week")
        ]
    for answer in answers:
        assert "secret-account" not in f"{answer.text}{answer.headers}"


def test_invented_names_last(cluster_18: Cluster, start_service: StartService) -> None:
    """A player is known by the name that it has; it must survive a restart, and be the same in
    every process."""
    url = cluster_18.clone()
    first, second = start_service(url), start_service(url)
    stand(first, {"a": (5, True), "b": (4, True)})
    names = [one["name"] for one in read(first, "a")["entries"]]
    assert len(set(names)) == 2
    assert [one["name"] for one in read(second, "b")["entries"]] == names
    other = start_service(cluster_18.clone())
    stand(other, {"a": (5, True), "b": (4, True)})
    assert [one["name"] for one in read(other, "a")["entries"]] != names


def test_boards_need_a_token(service: Service) -> None:
    """`me` has to be somebody."""
    answer = httpx.get(f"{service.url}/v1/leaderboards/xp")
    assert (answer.status_code, answer.json()["code"]) == (401, "token-missing")


def test_operators_rebuild_boards(service: Service) -> None:
    """It takes seconds of the database, so no user may ask for it."""
    stand(service, {"a": (5, True), "b": (4, True), "c": (3, False)})
    with service.client() as client:
        answer = client.post("/v1/admin/leaderboards/rebuild")
        assert (answer.status_code, answer.json()["code"]) == (403, "admin-only")
        operator = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        answer = client.post("/v1/admin/leaderboards/rebuild", headers=operator)
    assert answer.status_code == 200
    assert answer.json() == {"boards": [{"board": "xp", "accounts": 2, "cached": False}]}


def test_the_example_of_the_page_is_a_board() -> None:
    """What the page shows has the members and the ranks of the real thing."""
    page = Path(__file__).parents[2] / "docs/how-to/leaderboard.md"
    (text,) = re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)
    shown = msgspec.json.decode(text, type=BoardAnswer)
    assert msgspec.to_builtins(shown) == json.loads(text)
    scores = [entry.score for entry in shown.entries]
    assert [entry.rank for entry in shown.entries] == [
        1 + sum(other > score for other in scores) for score in scores
    ]
    assert [(one.rank, one.score) for one in shown.entries if one.me] == [
        (shown.me.rank, shown.me.score)
    ]
