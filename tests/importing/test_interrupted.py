"""Killed, stopped, started twice: an import ends with the same database as an undisturbed one."""

import asyncio
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.operations.importing import importer
from app.operations.importing.source import CHUNK_ROWS
from app.operations.importing.table_store import TableSource
from tests.conftest import Cluster
from tests.importing.tables import TABLES
from tests.importing.world import Outcome, World, rejected
from tests.sync.processes import two_processes

PATIENCE_S = 60.0
ROWS = 6 * CHUNK_ROWS
"""So many chunks that a kill finds some done, some in flight and some unread."""

SESSIONS = f"""
insert into session_results (id, user_id, thread_id, stitch_id, total_points, completed_at, results)
select 's' || n, 'u' || n % 400, case when n % 500 = 7 then 'bad:thread' else 'T1' end, 'S1',
       n % 50, timestamptz '2024-01-01' + n * interval '1 minute', '[]'
from generate_series(1, {ROWS}) n;
"""


@pytest.fixture
def old(world: World) -> World:
    world.sql(TABLES)
    world.sql(SESSIONS)
    return world


def wait_for_progress(world: World, process: "subprocess.Popen[str]", more_than: int) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        rows = world.ask("select done from imports")
        if rows and rows[0][0] > more_than:
            return int(rows[0][0])
        if process.poll() is not None:
            return ROWS
        time.sleep(0.002)
    raise AssertionError("the import does not come on")


def test_killed_again_and_again_it_ends_as_if_nothing_had_been(
    old: World, cluster_18: Cluster
) -> None:
    """kill -9 spares no moment: chunks are committed in part, the report is written and the
    position is not."""
    reached, kills = 0, 0
    arguments = ("session_results", "--from", old.old, "--rejects", "rejects.jsonl")
    while True:
        process = old.process(*arguments)
        reached = wait_for_progress(old, process, reached)
        if process.poll() is not None or kills == 4:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    said = process.communicate()[0]
    assert process.returncode == 3, said
    assert kills > 0, "it was never killed in the middle"
    assert f"{ROWS:,} rows of" in said
    calm = World(old.old, cluster_18.clone(), old.folder / "calm")
    calm.folder.mkdir()
    undisturbed = calm.bring_in("session_results")
    assert old.everything() == calm.everything()
    assert rejected(old.folder / "rejects.jsonl") == undisturbed.rejected
    assert len(undisturbed.rejected) == ROWS // 500
    assert old.adds_up()


def test_a_report_that_is_ahead_of_the_position_is_cut(old: World) -> None:
    """Between the two writes there is a moment in which a crash leaves lines too many."""
    whole = old.bring_in("session_results")
    position = json.loads(old.ask("select position from imports")[0][0])
    assert position["finished"]
    path = old.folder / "rejects.jsonl"
    position |= {"finished": False}
    old.ask("update imports set position = $1", json.dumps(position))
    with path.open("ab") as file:
        file.write(b'{"half a li')
    again = old.bring_in("session_results")
    assert again.rejected == whole.rejected
    assert f"{ROWS:,} rows of" in again.said


def test_another_mapping_or_file_begins_at_the_beginning(world: World) -> None:
    """A position means nothing in a file that is another one by now."""
    world.sql(TABLES)
    line = '{"user_id": "u1", "updated_at": null, "data": {"plain": %d}}\n'
    path = world.file("old.jsonl", line % 1)
    world.bring_in("user_sync_data", path)
    position = json.loads(world.ask("select position from imports")[0][0]) | {"finished": False}
    world.ask("update imports set position = $1", json.dumps(position))
    world.file("old.jsonl", (line % 2).replace("u1", "u2") + "\n\n")
    world.bring_in("user_sync_data", path)
    assert world.documents("u2") == {"plain": 2}


def test_two_at_once_on_one_source_and_one_says_so(old: World) -> None:
    """The second would do no harm, and would tell a progress that is not its own."""

    async def hold(connection: Any, name: str) -> None:
        assert await connection.fetchval(
            "select pg_try_advisory_lock(hashtextextended('syncline import ' || $1, 0))", name
        )

    async def second() -> str:
        connection = await asyncpg.connect(old.new)
        try:
            source = TableSource(old.old, "session_results", ["id"], 1_000)
            await hold(connection, f"session_results from {source.name}")
            process = old.process("session_results", "--from", old.old)
            return (await asyncio.to_thread(process.communicate))[0]
        finally:
            await connection.close()

    said = asyncio.run(second())
    assert "another import of session_results from" in said
    assert old.ask("select count(*) from events")[0][0] == 0


def test_two_at_once_from_two_places_come_to_one_import(old: World, cluster_18: Cluster) -> None:
    """A table and its dump are two sources of the same facts, and no lock keeps them apart."""
    rows = old.sql("select row_to_json(t)::text from session_results t order by id desc")
    dump = old.file("dump.jsonl", "\n".join(row[0] for row in rows))
    processes = [
        old.process("session_results", "--from", place, "--rejects", f"{number}.jsonl")
        for number, place in enumerate((old.old, dump))
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [3, 3], said
    calm = World(old.old, cluster_18.clone(), old.folder / "calm")
    calm.folder.mkdir()
    calm.bring_in("session_results")
    query = "select account, id, type, payload::text, occurred_at_ms from events order by 1, 2"
    assert old.ask(query) == calm.ask(query)
    query = "select account, name, amount from totals order by 1, 2"
    assert old.ask(query) == calm.ask(query)
    assert old.adds_up()


def test_it_runs_beside_services_that_serve(old: World) -> None:
    """Nobody has to stop for it: what two services write meanwhile and what they hold in memory
    stay true."""
    with two_processes(old.new) as processes:
        importing = old.process("session_results", "--from", old.old)
        sent = 0
        while importing.poll() is None:
            for process in processes:
                with process.client(f"u{sent % 400}") as client:
                    event = {
                        "id": f"00000000-0000-4000-8000-{sent:012}",
                        "type": "session",
                        "payload": {"thread": "T2", "stitch": "S2", "points": 1},
                    }
                    answer = client.post("/v1/events", json={"events": [event]})
                    assert answer.json()["results"][0]["outcome"] == "accepted", answer.text
                    sent += 1
        assert importing.returncode == 3, importing.communicate()[0]
        with processes[0].client("u8") as client:
            seen = client.get("/v1/documents/totals").json()["value"]
    assert sent > 0
    assert seen == old.documents("u8")["totals"]
    (row,) = old.ask("select sum(amount) from totals where name = 'points'")
    (points,) = old.sql("select sum(total_points) from session_results where thread_id = 'T1'")
    assert row[0] == points[0] + sent
    assert old.adds_up()


def test_a_dry_run_writes_nothing_and_tells_what_would_be(old: World) -> None:
    """It is run first, on the database that people use."""
    before = old.everything()
    dry = old.bring_in("session_results", dry_run=True)
    assert old.everything() == before
    assert old.ask("select count(*) from imports")[0][0] == 0
    assert old.ask("select count(*) from rules")[0][0] == 0
    wet = old.bring_in("session_results")
    assert dry.rejected == wet.rejected
    assert table(dry) == table(wet)
    assert "would be imported; nothing was written" in dry.said
    again = old.bring_in("session_results", dry_run=True)
    assert f"{ROWS - ROWS // 500:,}" in table(again)
    assert "known already" in again.said


def table(outcome: Outcome) -> str:
    """The lines of the report that count."""
    return "\n".join(line for line in outcome.said.splitlines() if "│" in line)


def test_a_terminal_shows_how_far_it_is(old: World) -> None:
    """Hours without a word look like a program that hangs."""
    said = old.bring_in("session_results", terminal=True).said
    assert "100%" in said
    assert f"{ROWS:,} rows, {ROWS // 500} rejected" in said
    assert "%" not in old.bring_in("session_results").said


def test_memory_does_not_grow_with_the_rows(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No more than a few chunks are ever held, however many rows there are."""
    held: list[int] = []
    settle = importer.Importer._settle
    write = importer.Importer._write
    open_chunks = 0

    async def counted_write(self: Any, chunk: Any, rows: Any) -> Any:
        nonlocal open_chunks
        open_chunks += 1
        held.append(open_chunks)
        return await write(self, chunk, rows)

    async def counted_settle(self: Any, progress: Any, done: Any) -> None:
        nonlocal open_chunks
        open_chunks -= 1
        await settle(self, progress, done)

    monkeypatch.setattr(importer.Importer, "_write", counted_write)
    monkeypatch.setattr(importer.Importer, "_settle", counted_settle)
    lines = (f'{{"user_id": "u{n}", "data": {{"plain": {n}}}}}\n' for n in range(8 * CHUNK_ROWS))
    world.bring_in("user_sync_data", world.file("many.jsonl", "".join(lines)))
    assert world.ask("select count(*) from documents")[0][0] == 8 * CHUNK_ROWS
    assert max(held) == importer.CHUNKS_IN_FLIGHT
