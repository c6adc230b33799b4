"""What a statement looks at: rows that were asked for, not those of the whole account.

A plan is made while a table is small or before it was ever counted, and kept by a connection for as
long as nobody counts again. And no count tells of the one account that has a thousand times the
rows of the others. So plans must not hang on counts.
"""

import asyncio
import hashlib
import json
from typing import Any, NamedTuple

import asyncpg

from app.documents import statements as documents
from app.ledger import statements as ledger
from tests.conftest import Cluster

HOT = "hot"
KEYS = 1_500
RING = 4
IDS = 20_000
DEVICES = 1_000
OTHERS = 3_000

FILL = f"""
insert into heads (account, seq, tag) values ('{HOT}', {KEYS}, 7);
insert into heads (account, seq) select 'other-' || n, 1 from generate_series(1, {OTHERS}) n;
insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, rule,
                       device, updated_at_ms)
select a, 'k' || n, {RING}, n, 0, 0, '1', '', 'r', 'd1', 1
from (select '{HOT}' as a, n from generate_series(1, {KEYS}) n
      union all select 'other-' || n, 1 from generate_series(1, {OTHERS}) n) w;
insert into revisions (account, key, slot, version, epoch, value, sidecar, rule, outcome, device,
                       mutation, updated_at_ms)
select account, key, v % {RING}, v, 0, '1', '', 'r', 'applied', 'd1', md5(key || v)::uuid, 1
from documents, generate_series(1, {RING}) v;
insert into proposals (account, key, device, version, proposed, mutation, updated_at_ms)
select account, key, 'd1', 1, '', md5(key)::uuid, 1 from documents;
insert into mutations (account, id, key, digest, created_at_ms)
select a, md5(n::text)::uuid, 'k1', '', 1
from (select '{HOT}' as a, n from generate_series(1, {IDS}) n
      union all select 'other-' || n, n from generate_series(1, {OTHERS}) n) w;
insert into devices (account, device, first_seen_ms, last_seen_ms)
select '{HOT}', 'd' || n, 1, 1 from generate_series(1, {DEVICES}) n;
insert into events (account, id, type, payload, digest, effects, device, occurred_at_ms,
                    received_at_ms)
select '{HOT}', md5(n::text)::uuid, 'xp', '1', '', '[]', 'd1', 1, 1
from generate_series(1, {IDS}) n;
"""

ID = hashlib.md5(b"7", usedforsecurity=False).hexdigest()
MADE = hashlib.md5(b"k73", usedforsecurity=False).hexdigest()


class Asked(NamedTuple):
    """A statement about one or two things of the hot account, and how many rows it may look at."""

    sql: str
    types: str
    arguments: str
    at_most: int


READS = {
    "documents": Asked(
        documents.READ_DOCUMENTS, "text[], text[]", "array['hot', 'hot'], array['k7', 'k8']", 2
    ),
    "seen": Asked(
        documents.READ_SEEN,
        "text[], uuid[]",
        f"array['hot', 'hot'], array['{ID}', gen_random_uuid()]::uuid[]",
        1,
    ),
    "devices": Asked(
        documents.READ_DEVICES, "text[], text[]", "array['hot', 'hot'], array['d7', 'd8']", 2
    ),
    "bases": Asked(
        documents.READ_BASES,
        "text[], text[], bigint[], int",
        f"array['hot', 'hot'], array['k7', 'k8'], array[2, 3], {RING}",
        2,
    ),
    "own revisions": Asked(
        documents.READ_OWN_REVISIONS,
        "text[], text[], text[]",
        "array['hot', 'hot'], array['k7', 'k8'], array['d1', 'd2']",
        2 * RING,
    ),
    "made revisions": Asked(
        documents.READ_MADE_REVISIONS,
        "text[], text[], uuid[]",
        f"array['hot', 'hot'], array['k7', 'k8'], array['{MADE}', '{MADE}']::uuid[]",
        2 * RING + 1,  # PostgreSQL rounds what does not fit, for each key
    ),
    "made proposals": Asked(
        documents.READ_MADE_PROPOSALS,
        "text[], text[], uuid[]",
        f"array['hot', 'hot'], array['k7', 'k8'], array['{ID}', '{ID}']::uuid[]",
        2,
    ),
    "evicted": Asked(
        documents.READ_EVICTED,
        "text[], text[], bigint[], text[], int",
        f"array['hot', 'hot'], array['k7', 'k8'], array[5, 5], array['d2', 'd2'], {RING}",
        2 + 2 * RING + 2,
    ),
    "proposals": Asked(
        documents.READ_PROPOSALS,
        "text[], text[], text[]",
        "array['hot', 'hot'], array['k7', 'k8'], array['d1', 'd1']",
        2,
    ),
    "events": Asked(
        ledger.READ_SEEN,
        "text[], uuid[]",
        f"array['hot', 'hot'], array['{ID}', gen_random_uuid()]::uuid[]",
        1,
    ),
}

HEAD = f"array[{KEYS}], array[7], array[{KEYS + 1}], array[8]"
WRITES = {
    "documents touched": Asked(
        documents.write(("written", "documents_touched")),
        "bigint[], bigint[], bigint[], bigint[], text[], text[], bytea[], text[], bigint[]",
        HEAD + ", array['hot'], array['k7'], array['s'::bytea], array['r'], array[1]",
        1 + 1,  # and the head
    ),
    "revisions touched": Asked(
        documents.write(("written", "revisions_touched")),
        "bigint[], bigint[], bigint[], bigint[], text[], text[], int[], bigint[], bytea[], text[], "
        "bytea[]",
        HEAD + ", array['hot'], array['k7'], array[3], array[3], array['s'::bytea], array['r'],"
        "array[null::bytea]",
        1 + 1,
    ),
}
ALL = READS | WRITES


def looked_at(plan: Any) -> int:
    """The rows that the scans of a plan took from tables, those that did not fit included."""
    rows = 0
    if plan["Node Type"].endswith("Scan") and "Relation Name" in plan:
        each = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        rows = round((each + plan.get("Rows Removed by Index Recheck", 0)) * plan["Actual Loops"])
    return rows + sum(looked_at(inside) for inside in plan.get("Plans", ()))


async def explain(connection: Any, name: str) -> tuple[int, str]:
    execute = f"execute \"{name}\" (array['hot'], {ALL[name].arguments})"
    await connection.execute("begin")
    text = await connection.fetchval(f"explain (analyze, format json) {execute}")
    await connection.execute("rollback")
    (top,) = json.loads(text)
    return looked_at(top["Plan"]), text


async def looked_at_by_all(url: str) -> list[str]:
    """Which statements looked at too many rows, or none, and when their plans were made."""
    connection = await asyncpg.connect(url)
    wrong = []

    async def look(when: str) -> None:
        for name, asked in ALL.items():
            rows, text = await explain(connection, name)
            if not 0 < rows <= asked.at_most:  # none would mean that the test asks for nothing
                wrong.append(f"{name}, planned {when}: {rows} rows, {asked.at_most} wanted\n{text}")

    try:
        await connection.execute("set plan_cache_mode = force_generic_plan")
        for name, asked in ALL.items():
            await connection.execute(f'prepare "{name}" (text[], {asked.types}) as {asked.sql}')
            await explain(connection, name)
        await connection.execute(FILL)
        await look("while the tables were empty")
        await connection.execute("discard plans")
        await look("before anybody counted")
        await connection.execute("analyze")
        await look("for whatever is asked")
        await connection.execute("set plan_cache_mode = force_custom_plan")
        await look("for what is asked")
    finally:
        await connection.close()
    return wrong


def test_a_read_looks_at_what_was_asked_for(cluster_18: Cluster) -> None:
    """Else a write of one account gets dearer with each id, document or event that it has."""
    wrong = asyncio.run(looked_at_by_all(cluster_18.clone()))
    assert not wrong, "\n".join(wrong)
