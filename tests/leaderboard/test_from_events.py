"""From the event to the board: two services, one Redis, and what players do."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

from app.clock import system_clock
from tests.conftest import Cluster, Service
from tests.leaderboard.lab import Server

StartService = Callable[..., Service]


def earn(client: httpx.Client, amount: int) -> None:
    event = {
        "id": str(uuid4()),
        "type": "xp",
        "occurred_at": system_clock(),
        "payload": {"amount": amount, "game": "quiz"},
    }
    answer = client.post("/v1/events", json={"events": [event]})
    assert answer.json()["results"][0]["outcome"] == "accepted", answer.text


def board(client: httpx.Client, name: str, **query: Any) -> list[tuple[int, str, int]]:
    answer = client.get(f"/v1/leaderboards/{name}", params=query).json()
    return [(one["rank"], one["name"], one["score"]) for one in answer["entries"]]


def test_what_is_committed_is_on_the_next_board_of_any_process(
    cluster_18: Cluster, start_service: StartService, server: Server
) -> None:
    """A player finishes a level and looks; another leaves the boards, and is gone."""
    url = cluster_18.clone()
    first, second = (start_service(url, redis_url=server.url) for _ in range(2))
    with first.client("ann") as ann, second.client("bob") as bob, second.client("cy") as cy:
        for number, client in enumerate((ann, bob, cy)):
            value = {"display_name": f"P{number}", "avatar": "fox"}
            client.put("/v1/documents/player", json={"value": value, "base": 0, "device": "d"})
        score = dict.fromkeys(("P0", "P1", "P2"), 0)
        for turn in range(60):
            name, client = list(zip(score, (ann, bob, cy), strict=True))[turn % 3]
            earn(client, 1 + turn % 7)
            score[name] += 1 + turn % 7
            best = sorted(score.values(), reverse=True)
            expected = {
                (best.index(points) + 1, who, points) for who, points in score.items() if points
            }
            for reader in (ann, bob, cy):
                for name in ("xp", "xp:week"):
                    assert set(board(reader, name)) == expected
                    assert set(board(reader, name, around="me", limit=100)) in (expected, set())
        hidden = {"display_name": "P0", "listed": False}
        ann.put("/v1/documents/player", json={"value": hidden, "base": 1, "device": "d"})
        for reader in (ann, bob, cy):
            assert {who for _, who, _ in board(reader, "xp")} == {"P1", "P2"}
            assert board(reader, "xp")[0][0] == 1
        assert ann.get("/v1/leaderboards/xp").json()["me"] == {"rank": None, "score": score["P0"]}
        cy.delete("/v1/documents/player")
        ((_, first_name, _), (_, second_name, _)) = board(bob, "xp")
        assert "P1" in (first_name, second_name)
        assert "P2" not in (first_name, second_name)
    answered = [one.app.state.leaderboard.answered["redis"] for one in (first, second)]
    assert min(answered) > 20


def test_redis_is_killed_under_the_service(start_service: StartService, server: Server) -> None:
    """Nothing is a 500, and nobody has to do anything."""
    service = start_service(redis_url=server.url)
    with service.client("ann") as ann:
        earn(ann, 5)
        assert board(ann, "xp")[0][2] == 5
        server.freeze()
        earn(ann, 5)
        assert board(ann, "xp")[0][2] == 10
        server.thaw()
        server.kill()
        earn(ann, 5)
        assert board(ann, "xp")[0][2] == 15
        server.start_empty()
        earn(ann, 5)
        assert board(ann, "xp")[0][2] == 20
