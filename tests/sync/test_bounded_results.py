"""The size of results: documents that do not fit are left out, and no client misses them."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.sync.wire import Json, documents, outcomes, patch, post, put, sync

ROOM = 4_000
BIG = "x" * 1_500


class Copies:
    """What a client holds that adopts results, then changes, then the cursor, and no more."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.values: dict[str, Any] = {}
        self.cursor: str | None = None
        self.longest = 0

    def sync(self, *mutations: Json) -> list[Json]:
        """Pushes, pulls until nothing more waits, and gives the results."""
        for sent in mutations:
            if sent["op"] == "put":
                self.values[sent["key"]] = sent["value"]
        results = self._once(*mutations)
        assert len(results) == len(mutations)
        return results

    def _once(self, *mutations: Json) -> list[Json]:
        response = post(self.client, *mutations, cursor=self.cursor)
        assert response.status_code == 200, response.text
        self.longest = max(self.longest, len(response.content))
        answer = response.json()
        for one in (*answer["results"], *answer["changes"]):
            if "value" in one:
                self.values[one["key"]] = one["value"]
        self.cursor = answer["cursor"]
        if answer["more"]:
            assert self._once() == []
        return list(answer["results"])


@pytest.fixture
def copies(start_service: Callable[..., Service]) -> Any:
    with start_service(max_answer_bytes=ROOM).client() as client:
        yield Copies(client)


def test_many_writes_of_one_document_tell_its_value_once(copies: Copies) -> None:
    """Five hundred small patches of one large document were answered by it five hundred times."""
    copies.sync(put("user_stats", {"xp": 0, "notes": BIG}, 0))
    results = copies.sync(*(patch("user_stats", delta={"xp": 1}) for _ in range(50)))
    assert [result["version"] for result in results] == list(range(2, 52))
    assert ["value" in result for result in results] == [False] * 49 + [True]
    assert copies.values == documents(copies.client) == {"user_stats": {"xp": 50, "notes": BIG}}
    assert copies.longest < 3 * ROOM + 50 * 200


def test_a_rejection_does_not_overtake_a_value(copies: Copies) -> None:
    """It says nothing of the document, so what the write before it made has to be told."""
    copies.sync(put("user_stats", {"xp": 0, "notes": BIG}, 0))
    writes = [patch("user_stats", delta={"xp": 1}) for _ in range(4)]
    results = copies.sync(*writes, patch("user_stats", delta={"xp": 1.5}))
    assert ["value" in result for result in results] == [False, False, False, True, False]
    assert copies.values == documents(copies.client)


def test_documents_that_do_not_fit_results_follow_as_changes(copies: Copies) -> None:
    """Distinct documents cannot overtake each other: they come page after page instead."""
    keys = [f"user_stats-{number}" for number in range(12)]
    copies.sync(*(put(key, {"notes": BIG + key}, 0) for key in keys))
    sync(copies.client, *(patch(key, set={"other": 1}) for key in keys), device="d2")
    results = copies.sync(*(patch(key, set={"mine": 1}) for key in keys))
    assert 0 < sum("value" in result for result in results) < 12
    assert copies.values == documents(copies.client)
    assert copies.values[keys[-1]] == {"notes": BIG + keys[-1], "other": 1, "mine": 1}
    assert copies.longest < 3 * ROOM


def test_documents_that_the_device_has_pulled_before_follow_too(copies: Copies) -> None:
    """A write that loses makes no version, so no change comes after the cursor, and the device
    would keep what it wrote for ever."""
    keys = [f"lost-{number}" for number in range(12)]
    truth = {key: {"notes": BIG, "of": key} for key in keys}
    sync(copies.client, *(put(key, value, 0) for key, value in truth.items()), device="d2")
    copies.sync()
    assert copies.values == truth
    old = [put(key, {"stale": 1}, edited_at=1_000_000) for key in keys]
    results = copies.sync(*old)
    assert {result["outcome"] for result in results} == {"unchanged"}
    assert copies.values == truth == documents(copies.client)
    # A retry loses as well, and its answer is as small.
    results = copies.sync(*old)
    assert copies.values == truth
    assert copies.longest < 3 * ROOM


def test_documents_of_problems_are_bounded_too(copies: Copies) -> None:
    """A rejection brings the current document along, which is as large as any."""
    copies.sync(put("user_stats", {"xp": 0, "notes": BIG}, 0))
    answer = post(copies.client, *(put("user_stats", {"xp": 9}) for _ in range(40)))
    results = answer.json()["results"]
    assert outcomes(answer.json()) == ["rejected"] * 40
    assert {result["problem"]["code"] for result in results} == {"base-unknown"}
    assert 0 < sum("document" in result["problem"] for result in results) < 4
    assert "user_stats" in {change["key"] for change in answer.json()["changes"]}
    assert len(answer.content) < 3 * ROOM + 40 * 400
