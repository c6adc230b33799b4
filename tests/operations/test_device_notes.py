"""Where devices stand: noted beside the requests, seldom, and the last word counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.database.engine import Database
from app.database.roles import act_as_service
from app.operations import store
from app.operations.device_notes import WRITTEN_EVERY_MS, DeviceNote, DeviceNotes, is_due
from tests.conftest import Cluster
from tests.documents.api import put
from tests.documents.contract import StartService
from tests.sync.database import fetch
from tests.sync.processes import two_processes
from tests.sync.wire import open_cursor, post, refused, sync
from tests.sync.wire import put as put_mutation

ROWS = """
select account, device, cursor_seq, pending, first_seen_ms, last_seen_ms, told_at_ms
from devices order by account, device
"""


@pytest.mark.parametrize(
    ("before", "now", "due"),
    [(0, 0, False), (0, 10, False), (0, 11, True), (None, 11, True), (100, 50, False),
     (100, 49, True), (100, 151, True), (11, None, True), (5, None, False)],
)  # fmt: skip
def test_only_a_large_change_is_written_within_the_minute(
    before: int | None, now: int | None, due: bool
) -> None:
    """An outbox that fills or empties is news; a device at work is not."""
    notes = [DeviceNote("a", "d", 1, pending, 0) for pending in (before, now)]
    assert is_due(notes[1], notes[0]) == due
    assert is_due(notes[1], None)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 90_000),
        st.sampled_from("abc"),
        st.none() | st.integers(0, 30),
        st.sampled_from(["note", "take", "fail"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_last_word_of_each_device_is_written_and_seldom_any_other(steps: Any) -> None:
    """Whatever fails in between: at the end each device's last note was written, and no two of one
    within a minute but for a large change."""
    now = 1_000_000
    notes = DeviceNotes(lambda: now)
    said: dict[str, DeviceNote] = {}
    written: dict[str, DeviceNote] = {}
    for wait, device, pending, step in steps:
        now += wait
        if step == "note":
            notes.note("a", device, now, pending)
            said[device] = DeviceNote("a", device, now, pending, now)
            continue
        taken = notes.take()
        assert taken == sorted(taken)
        if step == "fail":
            notes.give_back(taken)
            continue
        for note in taken:
            last = written.get(note.device)
            if last is not None and note.at_ms - last.at_ms < WRITTEN_EVERY_MS // 2:
                assert is_due(note, last) or now - last.at_ms >= WRITTEN_EVERY_MS
            written[note.device] = note
    now += 1
    written |= {note.device: note for note in notes.take_all()}
    assert written == said


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    made = Database(
        cluster.clone(), pool_size=4, statement_timeout_ms=3_000, on_connect=act_as_service
    )
    yield made
    await made.close()


async def write(database: Database, *notes: DeviceNote) -> list[DeviceNote]:
    """Updates the devices that are there and adds the others; those that were not updated."""
    async with database.connection() as connection:
        missing = await store.update_devices(connection, notes)
        for note in missing:
            await store.add_device(connection, note)
    return missing


async def test_an_older_note_of_another_process_changes_nothing(database: Database) -> None:
    """A device that goes from one process to another leaves a note in each; the later one counts,
    whichever is written last."""
    await write(database, DeviceNote("a", "d", 5, 2, 100))
    await write(database, DeviceNote("a", "d", 9, None, 300), DeviceNote("b", "d", 1, 0, 1))
    assert await write(database, DeviceNote("a", "d", 7, 8, 200)) == [
        DeviceNote("a", "d", 7, 8, 200)
    ]
    found = fetch_in_thread(database.url)
    assert await found == [("a", "d", 9, None, 100, 300, 300), ("b", "d", 1, 0, 1, 1, 1)]


async def fetch_in_thread(url: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await asyncio.to_thread(fetch, url, ROWS)]


async def test_a_note_waits_for_no_write(database: Database) -> None:
    """Rows that a write holds are passed over: who waits with locks in hand, as the other does,
    is a deadlock, which would cost that write a second."""
    notes = [DeviceNote("a", device, 1, 1, 1) for device in "xyz"]
    await write(database, *notes)
    later = [note._replace(at_ms=2, pending=2) for note in notes]
    async with database.connection() as writer, writer.transaction():
        await writer.execute("update devices set accepted = 1 where device = 'y'")
        async with database.connection() as connection:
            assert await store.update_devices(connection, later) == [later[1]]
    assert [row[3] for row in await fetch_in_thread(database.url)] == [2, 1, 2]


async def test_devices_that_only_pull_are_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that invents a device for each pull must not fill the table."""
    monkeypatch.setattr(store, "DEVICES_OF_ACCOUNT", 3)
    await write(database, *(DeviceNote("a", f"d{n}", 1, 1, 1) for n in range(6)))
    await write(database, DeviceNote("b", "d", 1, 1, 1))
    found = [(row[0], row[1]) for row in await fetch_in_thread(database.url)]
    assert found == [("a", "d0"), ("a", "d1"), ("a", "d2"), ("b", "d")]


# --- from the requests ------------------------------------------------------------------------


def until(url: str, device: str, cursor_seq: int, pending: int | None) -> Any:
    """Waits until this is noted of a device."""
    deadline = time.monotonic() + 20
    while True:
        found = {row["device"]: row for row in fetch(url, ROWS)}
        row = found.get(device)
        if row is not None and (row["cursor_seq"], row["pending"]) == (cursor_seq, pending):
            return row
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_operators_see_where_each_device_stands(
    cluster: Cluster, start_service: StartService
) -> None:
    """A device that pulls only, one that writes, one that never synced, and how far behind each is;
    of other accounts nothing."""
    service = start_service(cluster.clone())
    with service.client("ana") as client, service.client("bo") as other:
        assert put(other, "k", 1, device="of-bo").status_code == 201
        put(client, "k", 1, device="writes")
        first = sync(client, device="pulls", pending=3)
        until(service.database_url, "pulls", 0, 3)
        put(client, "k", 2, device="writes")
        put(client, "k", 3, device="writes")
        seq = open_cursor(first["cursor"])[1]
        sync(client, device="tablet", cursor=first["cursor"], pending=40)
        until(service.database_url, "tablet", seq, 40)
    with service.operator() as operator:
        answer = operator.get("/v1/admin/accounts/ana/devices")
        nobody = operator.get("/v1/admin/accounts/nobody/devices").json()
        stats = operator.get("/v1/admin/stats").json()
    assert answer.status_code == 200, answer.text
    found = {one["device"]: one for one in answer.json()["devices"]}
    assert answer.json()["head"] == 3
    assert set(found) == {"writes", "pulls", "tablet"}
    shown = {name: (d["cursor_seq"], d["behind"], d["pending"]) for name, d in found.items()}
    assert shown == {"writes": (None, None, None), "pulls": (0, 3, 3), "tablet": (1, 2, 40)}
    assert found["tablet"]["told_at"] == found["tablet"]["last_seen"]
    assert found["writes"]["told_at"] is None
    assert nobody == {"account": "nobody", "head": 0, "devices": []}
    assert [one["device"] for one in stats["behind"]] == ["pulls", "tablet"]
    assert [one["device"] for one in stats["waiting"]] == ["tablet", "pulls"]
    assert stats["devices"] == {
        "devices": 4,
        "seen_last_day": 4,
        "seen_last_month": 4,
        "waiting": 2,
        "pending": 43,
    }


def test_pending_is_a_count(start_service: StartService, cluster_18: Cluster) -> None:
    """What cannot be stored is refused at once, and a device that says nothing says nothing."""
    service = start_service(cluster_18.clone())
    with service.client() as client:
        for wrong in (-1, 2**31, 1.5, "3", True):
            problem = refused(post(client, pending=wrong), 400, "invalid-request")
            assert problem["path"] == "$.pending"
        sync(client, device="quiet", pending=None)
        sync(client, device=None, pending=7)
        until(service.database_url, "quiet", 0, None)
        assert len(fetch(service.database_url, ROWS)) == 1


def test_a_note_is_no_acknowledged_write(start_service: StartService, cluster_18: Cluster) -> None:
    """The row that a pull makes must not look as if the device had written, or a store that begins
    to number its mutations would be taken for a copy."""
    service = start_service(cluster_18.clone())
    with service.client() as client:
        sync(client, device="d1", previous=None)
        until(service.database_url, "d1", 0, None)
        mutation = put_mutation("k", 1, base=0)
        answer = sync(client, mutation, device="d1", previous=None)
        assert answer["results"][0]["outcome"] == "applied"
        later = put_mutation("k", 2, base=1)
        sync(client, later, device="d1", previous=mutation["id"])
    (row,) = fetch(service.database_url, "select last_mutation, accepted from devices")
    assert (str(row[0]), row[1]) == (later["id"], 2)


def test_accounts_with_odd_names_are_found(
    start_service: StartService, cluster_18: Cluster
) -> None:
    """Identity providers use bars and spaces; what no account can be is refused."""
    service = start_service(cluster_18.clone())
    with service.client("auth0|a ü") as client:
        put(client, "k", 1, device="d1")
    with service.operator() as operator:
        found = operator.get("/v1/admin/accounts/auth0%7Ca%20%C3%BC/devices").json()
        assert (found["account"], len(found["devices"])) == ("auth0|a ü", 1)
        for odd in ("%00", "x" * 129):
            answer = operator.get(f"/v1/admin/accounts/{odd}/devices")
            refused(answer, 400, "invalid-request")


def test_two_processes_agree_on_the_last_word(cluster_18: Cluster) -> None:
    """A balancer sends a device here and there; each process holds a note for up to a minute, and
    the one that stops last may hold the older one."""
    url = cluster_18.clone()
    with two_processes(url) as (first, second):
        with first.client("ana") as a, second.client("ana") as b:
            for client, pending in ((a, 1), (b, 2)):
                sync(client, device="d1", pending=pending)
            until(url, "d1", 0, 2)
            # Small changes: both notes wait now, and are written only when the processes stop.
            sync(b, device="d1", pending=3)
            sync(a, device="d1", pending=4)
        first.end()
        assert until(url, "d1", 0, 4)
        second.end()
    assert [row["pending"] for row in fetch(url, ROWS)] == [4]
