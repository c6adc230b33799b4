"""What a write leaves on disk: where updates stay on their page, tables and logs stay small."""

import time
from collections.abc import Callable

import pytest

from app.database.schema import metadata
from bench.generators import PythonGenerator
from bench.meters import UPDATES, query, settled_writes, versions
from bench.workloads import KEYS, SYNC_KEYS, WORKLOADS, Plan, account_names, plan, seed_plan
from tests.conftest import Cluster, Service
from tests.costs import figures

StartService = Callable[..., Service]
ACCOUNTS = 100
ROUNDS = 12
HISTORY = 8
PATIENCE_S = 20.0
(W1,) = (work for work in WORKLOADS if work.name == "W1")

WAL = "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint, current_setting('full_page_writes')"
RINGS = "select count(*), min(version), max(version) from revisions group by account, key"
INDEXED = """
select t.relname, i.relname,
       array_agg(a.attname::text order by array_position(x.indkey::int2[], a.attnum))
from pg_index x join pg_class t on t.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
join pg_attribute a on a.attrelid = t.oid and a.attnum = any(x.indkey)
where t.relnamespace = 'public'::regnamespace and not x.indisprimary group by 1, 2
"""
STORED = """
select pg_column_size(d.*), octet_length(sidecar), octet_length(value::text), length(account)
from documents d where account = $1 and key = 'user_stats'
"""


class Written:
    """A service after thousands of writes of W1, a request each, on current versions."""

    def __init__(self, service: Service) -> None:
        self.url = service.database_url
        tokens = {name: service.token(name) for name in account_names("player", ACCOUNTS)}
        self._send(seed_plan(SYNC_KEYS, tokens), service)
        once = plan(W1, tokens, versions(self.url, "player"), era="")  # W1 has no cursor
        self.writes = len(once.items) * ROUNDS
        before = self._wal_bytes()
        # An item counts its document's version up, so it can be sent again.
        self._send(Plan(list(once.items) * ROUNDS, once.bodies, once.stale), service)
        assert settled_writes(self.url, "player") == self.writes + ACCOUNTS * len(KEYS)
        self.wal_bytes = self._wal_bytes() - before

    def _send(self, requests: Plan, service: Service) -> None:
        load = PythonGenerator().run_once(requests, service.url)
        assert (load.errors, load.requests) == (0, len(requests.items))

    def _wal_bytes(self) -> int:
        ((written, full_pages),) = query(self.url, WAL)
        assert full_pages == "off", "images of pages would depend on when checkpoints happen"
        return int(written)


@pytest.fixture(scope="module")
def written(cluster_18: Cluster, start_module_service: StartService) -> Written:
    return Written(start_module_service(cluster_18.clone(), history=HISTORY))


def test_updates_are_heap_only(written: Written) -> None:
    """An update that touches an index costs several times as much, and leaves the index to clean.

    PostgreSQL counts a little late, so it is asked until it has told of all.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        counted = {row[0]: (row[1], row[2]) for row in query(written.url, UPDATES)}
        if counted["documents"][0] >= written.writes or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert counted["documents"][0] == written.writes
    for table in ("heads", "documents"):
        updates, heap_only = counted[table]
        assert heap_only >= figures.HEAP_ONLY_SHARE * updates, counted


def test_nothing_that_a_write_changes_is_indexed(written: Written) -> None:
    """One index on seq, or on anything else that writes change, would end heap-only updates.

    Only primary keys may be, and one that summarises blocks and so stands in no update's way.
    """
    others = {(row[0], row[1]): row[2] for row in query(written.url, INDEXED)}
    assert others == {
        ("mutations", "mutations_created_at_ms"): ["created_at_ms"],
        # Events are never updated, and standings by events alone.
        ("events", "events_study_sessions"): ["account", "occurred_at_ms"],
        ("standings", "standings_ranked"): ["board", "score", "account"],
        ("standings", "standings_unsettled"): ["board"],
    }
    changing = {"seq", "version", "value", "sidecar", "updated_at_ms"}
    for name in ("heads", "documents", "revisions", "devices"):
        assert changing.isdisjoint(column.name for column in metadata.tables[name].primary_key)


def test_revisions_are_bounded_by_the_ring(written: Written) -> None:
    """A history that grows with every write would fill the disk, and slow everything down."""
    rings = query(written.url, RINGS)
    assert len(rings) == ACCOUNTS * len(KEYS)
    last = ROUNDS + 1
    assert {tuple(row) for row in rings} == {(HISTORY, last - HISTORY + 1, last)}


def test_a_document_takes_few_bytes(written: Written) -> None:
    """What is stored beside the value is paid for by every document there is."""
    ((row, sidecar, value, account),) = query(written.url, STORED, "player-00007")
    assert (value, account) == (304, 12), "the example changed: measure again"
    assert row <= figures.STORED_BYTES
    assert sidecar <= figures.SIDECAR_BYTES


def test_a_write_takes_little_of_the_log(written: Written) -> None:
    """The log is what replicas and backups carry: a careless column shows here first."""
    assert written.wal_bytes / written.writes <= figures.WAL_BYTES
