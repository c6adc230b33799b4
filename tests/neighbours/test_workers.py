"""Real workers that hand over to each other: nothing is seen of it but its speed."""

import os
import random
import re
import signal
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from app.neighbours.places import home_of
from tests.conftest import Cluster
from tests.documents.test_hot_routes import BODIES, SYNCS
from tests.neighbours.workers import PATIENCE_S, away, connected, two_workers, until
from tests.sync.database import fetch
from tests.sync.processes import Process

ACCOUNTS = [f"account-{number}" for number in range(6)]
WRITERS = 6


# --- what is answered -------------------------------------------------------------------------

VARYING = re.compile(rb'"(updated_at|server_time)":\d+|"cursor":"[^"]+"')
LONG = b'{"value": "' + b"x" * 3_000 + b'"}'
ASKED = [
    *(("PUT", "/v1/documents/user_stats", body) for body in BODIES),
    ("PUT", "/v1/documents/user_stats", b'{"value": {"xp": 9}, "base": 0, "device": "d2"}'),
    ("PUT", "/v1/documents/user_stats", b'{"value": {"xp": 7}, "base": 1, "device": "d3"}'),
    ("PUT", "/v1/documents/user_stats", b'{"value": {"xp": 7}, "base": 99, "device": "d3"}'),
    ("PUT", "/v1/documents/user_stats", b'{"value": {"xp": 7}, "base": 1}'),
    ("PUT", "/v1/documents/totals", b'{"value": {"xp": 7}}'),
    ("PUT", "/v1/documents/note", LONG),
    ("PUT", "/v1/documents/note:1", "{\"value\": \"Zoë 🦉\"}".encode()),
    ("PUT", "/v1/documents/note:2", b'{"value": 1}'),
    ("PUT", "/v1/documents/note:3", b'{"value": 1}'),
    *(("POST", "/v1/sync", body) for body in SYNCS),
    ("POST", "/v1/sync", b'{"cursor": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}'),
]  # fmt: skip


def shown(answer: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """All of an answer but times and cursors, which differ from database to database."""
    headers = [(name, text) for name, text in answer.headers.raw if name.lower() != b"date"]
    body = VARYING.sub(b"", answer.content)
    return answer.status_code, [one for one in headers if one[0] != b"content-length"], body


def test_answers_are_those_of_one_worker(cluster_18: Cluster) -> None:
    """To the byte, headers too, whether the account is at home where it was asked or not."""
    limits = {"max_document_bytes": "2000", "max_documents": "4"}
    one = Process(cluster_18.clone(), **limits)
    try:
        one.wait_until_ready()
        with one.client("someone") as client:
            sent = {"Content-Type": "application/json"}
            alone = [client.request(m, p, content=b, headers=sent) for m, p, b in ASKED]
    finally:
        one.end()
    expected = [shown(answer) for answer in alone]
    assert {status for status, _, _ in expected} >= {200, 201, 400, 403, 409, 413, 422}
    with two_workers(cluster_18.clone(), **limits) as process, connected(process) as connections:
        for account in ("someone", next(a for a in ACCOUNTS if home(a) != home("someone"))):
            connection = away(connections, account)
            before = connection.number("neighbours_handed_over_total")
            answers = [connection.request(account, m, p, content=b) for m, p, b in ASKED]
            assert [shown(answer) for answer in answers] == expected
            after = connection.number("neighbours_handed_over_total")
            assert after - before == len(ASKED)


def home(account: str) -> int:
    return home_of(account, 2)


# --- who serves -------------------------------------------------------------------------------


def test_scattered_writes_are_decided_at_one_place(cluster_18: Cluster) -> None:
    """Each process would find its memory stale every other time. Also a token that is new to a
    worker makes no difference, nor does a connection that is."""
    with two_workers(cluster_18.clone()) as process, connected(process) as connections:

        def write(account: str) -> None:
            for number in range(40):
                connection = connections[number % 2]
                body = {"value": {"xp": number + 1}, "base": number, "device": "d1"}
                path = "/v1/documents/user_stats"
                answer = connection.request(account, "PUT", path, json=body)
                assert answer.json()["outcome"] == "applied"

        for account in ACCOUNTS:
            write(account)
        numbers = {
            name: [connection.number(name) for connection in connections]
            for name in (
                "batches_contended_total",
                "cache_hits_total",
                "cache_misses_total",
                "neighbours_handed_over_total",
                "neighbours_served_total",
                "neighbours_away_total",
            )
        }
    assert numbers["batches_contended_total"] == [0, 0]
    assert numbers["neighbours_away_total"] == [0, 0]
    assert sum(numbers["neighbours_handed_over_total"]) == 20 * len(ACCOUNTS)
    assert numbers["neighbours_handed_over_total"] == numbers["neighbours_served_total"][::-1]
    assert min(numbers["neighbours_served_total"]) > 0
    assert sum(numbers["cache_misses_total"]) == len(ACCOUNTS)
    assert sum(numbers["cache_hits_total"]) == 39 * len(ACCOUNTS)


# --- what goes wrong --------------------------------------------------------------------------


class Writer:
    """Increments counters of all accounts, each by a mutation that it sends until it is answered,
    by connections that meet any worker."""

    def __init__(self, process: Process, number: int) -> None:
        self._process = process
        self._random = random.Random(number)
        self._client = httpx.Client(base_url=process.url, timeout=PATIENCE_S)
        self.device = f"device-{number}"
        self.counted: Counter[str] = Counter()
        self.ids: dict[str, str] = {}
        self.refused = 0
        """Answers that left it uncertain."""
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            self._write(self._random.choice(ACCOUNTS), self._random.randint(1, 9))
            if self._random.random() < 0.2:
                self._reconnect()
        self._client.close()

    def _write(self, account: str, amount: int) -> None:
        identifier = str(UUID(int=self._random.getrandbits(128), version=4))
        mutation = {"id": identifier, "op": "patch", "key": "user_stats", "delta": {"xp": amount}}
        body = {"device": self.device, "mutations": [mutation]}
        repeats = self._random.choice([0, 0, 0, 1])
        while repeats >= 0:
            answer = self._asked(account, body)
            if answer is None:
                continue
            (result,) = answer.json()["results"]
            assert result["outcome"] in ("applied", "merged", "duplicate"), result
            repeats -= 1
        self.counted[account] += amount
        self.ids[identifier] = account

    def _asked(self, account: str, body: object) -> httpx.Response | None:
        headers = {"Authorization": f"Bearer {self._process.token(account)}"}
        try:
            answer = self._client.post("/v1/sync", json=body, headers=headers)
        except httpx.TransportError:
            self._reconnect()
            return None
        if answer.status_code == 503:
            assert answer.json()["code"] == "database-unavailable"
            self.refused += 1
            return None
        assert answer.status_code == 200, answer.text
        return answer

    def _reconnect(self) -> None:
        self._client.close()
        self._client = httpx.Client(base_url=self._process.url, timeout=PATIENCE_S)


@contextmanager
def writing(process: Process) -> Iterator[list[Writer]]:
    """Writers at work; at the end they stop, and what they were told holds."""
    writers = [Writer(process, number) for number in range(WRITERS)]
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(writer.run) for writer in writers]
        try:
            yield writers
        finally:
            for writer in writers:
                writer.ended.set()
        for one in running:
            one.result()


def progress(writers: list[Writer], more: int) -> None:
    """Waits for each writer to have written so much more."""
    wanted = [len(writer.ids) + more for writer in writers]
    until(lambda: all(len(w.ids) >= n for w, n in zip(writers, wanted, strict=True)))


def check(url: str, process: Process, writers: list[Writer]) -> None:
    """Nothing is lost and nothing counted twice."""
    totals: Counter[str] = sum((writer.counted for writer in writers), Counter())
    ids = Counter(account for writer in writers for account in writer.ids.values())
    for account in ACCOUNTS:
        with process.client(account) as client:
            found = client.get("/v1/documents/user_stats").json()
        assert found["value"]["xp"] == totals[account]
        assert found["version"] == ids[account]
    seen = {row["id"] for row in fetch(url, "select id::text from mutations")}
    assert seen == {identifier for writer in writers for identifier in writer.ids}


def test_a_worker_that_is_killed_loses_nothing(cluster_18: Cluster) -> None:
    """Kill -9 in the middle of everything; another takes its place, and is handed over to."""
    url = cluster_18.clone()
    with two_workers(url) as process:
        with writing(process) as writers:
            for _ in range(2):
                with connected(process) as connections:
                    progress(writers, 10)
                    os.kill(random.choice(connections).worker, signal.SIGKILL)
                progress(writers, 10)
            with connected(process) as connections:
                progress(writers, 10)
                served = [
                    connection.number("neighbours_served_total") for connection in connections
                ]
        assert min(served) > 0
        check(url, process, writers)


def test_a_worker_that_is_stopped_for_a_while_loses_nothing(cluster_18: Cluster) -> None:
    """What was handed over to it is answered when it goes on."""
    url = cluster_18.clone()
    with two_workers(url) as process, connected(process) as connections:
        with writing(process) as writers:
            for connection in connections:
                progress(writers, 10)
                os.kill(connection.worker, signal.SIGSTOP)
                threading.Event().wait(1.5)
                os.kill(connection.worker, signal.SIGCONT)
            progress(writers, 10)
        check(url, process, writers)


def test_others_serve_for_a_worker_that_hangs(cluster_18: Cluster) -> None:
    """What it was handed is given up as uncertain, what comes later is served elsewhere, and
    when it goes on it is handed over to again."""
    with two_workers(cluster_18.clone()) as process, connected(process) as connections:
        connection = away(connections, "someone")
        (hanging,) = (one for one in connections if one is not connection)
        stopped = (process.pid, hanging.worker)  # the parent would kill a worker that hangs
        with ThreadPoolExecutor(4) as pool:
            try:
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)
                handed_over = pool.submit(_put, process, "first")
                until(lambda: connection.number("neighbours_handed_over_total") > 1)
                until(lambda: connection.number("neighbours_linked") == 0)
                assert not handed_over.done()
                assert connection.request("someone", "PUT", "/v1/documents/k", json={"value": 1})
                assert connection.number("neighbours_away_total") == 1
                answer = handed_over.result(PATIENCE_S)
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
        assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
        assert "same ids" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "1"
        # A connection that was idle for so long is closed: others are made, to see both workers.
        with connected(process) as later:
            assert away(later, "someone").worker != hanging.worker


def _put(process: Process, key: str) -> httpx.Response:
    with process.client("someone") as client:
        return client.put(f"/v1/documents/{key}", json={"value": 1})


def test_a_worker_that_is_asked_to_stop_refuses_nobody(cluster_18: Cluster) -> None:
    """Neither its own clients nor those of its neighbours; so workers can be replaced in turn."""
    url = cluster_18.clone()
    with two_workers(url) as process:
        with writing(process) as writers:
            for turn in range(2):
                with connected(process) as connections:
                    progress(writers, 10)
                    worker = connections[turn].worker
                os.kill(worker, signal.SIGTERM)
                until(partial(_is_gone, worker))
            with connected(process):
                progress(writers, 10)
        assert [writer.refused for writer in writers] == [0] * WRITERS
        check(url, process, writers)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- the folder -------------------------------------------------------------------------------


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of the services that a test starts."""
    with tempfile.TemporaryDirectory(prefix="syncline-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.mark.parametrize("end", [Process.end, Process.kill])
def test_they_meet_in_a_private_folder(
    cluster_18: Cluster, temporary: Path, end: Callable[[Process], None]
) -> None:
    """Who gets in can write any account. And it goes away with them."""
    process = Process(cluster_18.clone(), workers="2")
    try:
        process.wait_until_ready()
        with connected(process):
            (folder,) = temporary.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            found = {one.name for one in folder.iterdir()}
            assert found == {"0.lock", "0.socket", "1.lock", "1.socket"}
    finally:
        end(process)
    until(lambda: not list(temporary.iterdir()))


def test_one_worker_has_nobody_to_meet(cluster_18: Cluster, temporary: Path) -> None:
    process = Process(cluster_18.clone())
    try:
        process.wait_until_ready()
        assert _put(process, "k").status_code == 201
        assert not list(temporary.iterdir())
    finally:
        process.end()


def test_a_folder_with_too_long_a_path_stops_nobody(
    cluster_18: Cluster, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path has little room; the workers serve all the same, each by itself."""
    long = temporary / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with two_workers(cluster_18.clone()) as process:
        for number in range(8):
            assert _put(process, f"k-{number}").status_code == 201
