"""Statistics of all accounts: right while small, bounded when large, and of no content."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.database.engine import Database
from app.operations.stats import Statistics
from tests.conftest import Cluster
from tests.documents.api import put, refused
from tests.documents.contract import StartService
from tests.operations.test_rejections import recorded
from tests.sync.database import fetch

EMPTY_DEVICES = {
    "devices": 0, "seen_last_day": 0, "seen_last_month": 0, "waiting": 0, "pending": 0,
}  # fmt: skip


def test_an_empty_database_has_statistics(cluster: Cluster, start_service: StartService) -> None:
    """An operator looks first thing after the start."""
    service = start_service(cluster.clone())
    with service.operator() as operator:
        assert operator.get("/v1/admin/stats").json() == {
            "sampled": {"documents": 1, "revisions": 1, "rejections": 1, "devices": 1},
            "keys": [],
            "merged": [],
            "rejected_codes": [],
            "rejected": [],
            "devices": EMPTY_DEVICES,
            "behind": [],
            "waiting": [],
        }
        assert operator.head("/v1/admin/stats").status_code == 200
        refused(operator.get("/v1/admin/stats?limit=1"), 400, "invalid-request")
    with service.client() as client:
        for path in ("/v1/admin/stats", "/v1/admin/accounts/x/devices"):
            refused(client.get(path), 403, "admin-only")


def merge(client: httpx.Client, key: str, times: int) -> None:
    """Makes a document whose last versions are merges."""
    assert put(client, key, {"n": 0}, base=0).status_code == 201
    for number in range(times + 1):
        body = {"value": {f"f{number}": number}, "base": 1, "device": f"d{number}"}
        outcome = client.put(f"/v1/documents/{key}", json=body).json()["outcome"]
        assert outcome == ("merged" if number else "applied")


def test_the_questions_of_operators_are_answered(
    cluster: Cluster, start_service: StartService
) -> None:
    """Versions by kind of key, documents that merge most, refusals by code: what the sources asked
    by hand; and no value of any document."""
    service = start_service(cluster.clone())
    secret = "what-nobody-shall-see"
    with service.client("ana") as ana, service.client("bo") as bo:
        for number in range(3):
            put(ana, f"lesson:t:{number}", {"is_completed": True, "note": secret})
        put(ana, "lesson:t:0", {"is_completed": True, "n": 1}, base=1)
        put(bo, "settings", {"theme": secret})
        ana.delete("/v1/documents/lesson:t:2")
        merge(ana, "game_stats", 4)
        merge(bo, "game_stats", 2)
        for client, times in ((ana, 2), (bo, 3)):
            for _ in range(times):
                put(client, "settings", 5)
        put(bo, "game_stats", {"score": secret})
    recorded(service, 6)
    with service.operator() as operator:
        answer = operator.get("/v1/admin/stats")
    stats = answer.json()
    assert secret not in answer.text
    assert stats["keys"] == [
        {"pattern": "lesson:*", "documents": 3, "deleted": 1, "average_version": 1.67,
         "highest_version": 2},
        {"pattern": "game_stats", "documents": 2, "deleted": 0, "average_version": 5,
         "highest_version": 6},
        {"pattern": "settings", "documents": 1, "deleted": 0, "average_version": 1,
         "highest_version": 1},
    ]  # fmt: skip
    assert stats["merged"] == [
        {"account": "ana", "key": "game_stats", "version": 6, "kept": 6, "merged": 4},
        {"account": "bo", "key": "game_stats", "version": 4, "kept": 4, "merged": 2},
    ]
    codes = [(one["code"], one["times"], one["accounts"]) for one in stats["rejected_codes"]]
    assert codes == [("wrong-type", 6, 2)]
    most = [(one["account"], one["key"], one["times"]) for one in stats["rejected"]]
    assert most == [("bo", "settings", 3), ("ana", "settings", 2), ("bo", "game_stats", 1)]


MANY = """
with head as (insert into heads (account, seq) select 'a' || n, 1 from generate_series(1, 200) n
              returning account)
insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, rule,
                       updated_at_ms)
select account, 'k:' || n, 3, 1, 0, 0, '{}', '', 'x', 1 from head, generate_series(1, 100) n
"""


async def test_a_large_table_is_sampled(cluster: Cluster) -> None:
    """Ten million documents are not read because an operator is curious: the work is bounded by
    bytes, and the counts are about right."""
    url = cluster.clone()
    database = Database(url, pool_size=1, statement_timeout_ms=10_000)
    try:
        async with database.connection() as connection:
            await connection.execute(MANY)
        size = await relation_size(database)
        stats = await Statistics(database, lambda: 0, 32, most_bytes=size // 4).read()
        assert 0.2 < stats.sampled.documents < 0.3
        (group,) = stats.keys
        assert (group.pattern, group.average_version) == ("k:*", 3)
        assert 10_000 < group.documents < 30_000
    finally:
        await database.close()


async def relation_size(database: Database) -> int:
    async with database.connection() as connection:
        size: int = await connection.fetchval("select pg_relation_size('documents')")
        return size


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_line_shows_the_same(
    cluster_18: Cluster, start_service: StartService, invoke: Any, as_json: bool
) -> None:
    """Operators have a shell before they have a token."""
    service = start_service(cluster_18.clone())
    with service.client("[ana]") as client:
        put(client, "settings", 5)
        merge(client, "game_stats", 1)
        client.post("/v1/sync", json={"device": "d9", "pending": 12, "mutations": [
            {"id": str(uuid4()), "op": "put", "key": "a:b", "value": 1}
        ]})  # fmt: skip
    recorded(service, 1)
    _await_device(service.database_url)
    extra = ["--json"] if as_json else []
    result = invoke("stats", *extra, SYNCLINE_DATABASE_URL=service.database_url)
    assert result.exit_code == 0, result.output
    for words in ("a:*", "game_stats", "wrong-type", "[ana]", "d9", "12"):
        assert words in result.stdout, words
    one = invoke("stats", "--account", "[ana]", *extra, SYNCLINE_DATABASE_URL=service.database_url)
    assert "d9" in one.stdout
    assert "wrong-type" not in one.stdout


def _await_device(url: str) -> None:
    for _ in range(400):
        if fetch(url, "select from devices where pending = 12"):
            return
    raise AssertionError("the device was not noted")
