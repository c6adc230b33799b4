"""Events as a client writes them."""

from typing import Any
from uuid import uuid4

import httpx

Json = dict[str, Any]


def event(type: str, payload: Any, **more: Any) -> Json:
    return {"id": str(uuid4()), "type": type, "payload": payload, **more}


def xp(amount: Any, **more: Any) -> Json:
    return event("xp", {"amount": amount, "game": "quiz"}, **more)


def attempt(level: str, correct: int, total: int = 10, **more: Any) -> Json:
    payload = {"level": level, "score": 10 * correct, "total_questions": total}
    return event("attempt", {**payload, "correct_answers": correct, "time_spent_s": 60}, **more)


def session(points: int, speed: float | None = None, **more: Any) -> Json:
    payload = {"thread": "t1", "stitch": "s1", "total_questions": 20, "correct_answers": 17}
    return event("session", {**payload, "points": points, "blink_speed": speed}, **more)


def record(client: httpx.Client, *events: Json, **more: Any) -> list[Json]:
    """The results of events whose request must succeed."""
    answer = client.post("/v1/events", json={"events": list(events), **more})
    assert answer.status_code == 200, answer.text
    results: list[Json] = answer.json()["results"]
    assert [result["id"] for result in results] == [one["id"] for one in events]
    return results


def outcomes(results: list[Json]) -> list[str]:
    """The outcome of each event, or the code of its problem."""
    return [
        result["problem"]["code"] if result["outcome"] == "rejected" else result["outcome"]
        for result in results
    ]


def value(client: httpx.Client, key: str) -> Any:
    """The value of a document; None if there is none."""
    answer = client.get(f"/v1/documents/{key}")
    return answer.json()["value"] if answer.status_code == 200 else None


def audit(client: httpx.Client) -> Json:
    """The audit of an account, which must find nothing wrong."""
    answer = client.get("/v1/ledger/audit")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert found["ok"], found
    assert found["differences"] == []
    return found
