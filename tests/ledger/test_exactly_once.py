"""Exactly once: through retries, races, two processes and kills."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Cluster
from tests.ledger.wire import Json, audit, outcomes, record, session, value, xp
from tests.sync.database import fetch
from tests.sync.processes import Process, two_processes

WRITERS = 6
KILLS = 3


def test_two_processes_race_for_the_same_events(cluster_18: Cluster) -> None:
    """The same twenty events go to both at once, in another order each time: each counts once,
    and of all answers to it exactly one says that it was accepted."""
    with two_processes(cluster_18.clone()) as processes:
        events = [xp(number) if number % 3 else session(number, 2.0) for number in range(1, 21)]

        def send(number: int) -> list[Json]:
            with processes[number % 2].client("player") as client:
                mixed = random.Random(number).sample(events, len(events))
                parts = [mixed[:7], mixed[7:], mixed[3:9]]
                return [result for part in parts for result in record(client, *part)]

        with ThreadPoolExecutor(8) as pool:
            results = [result for found in pool.map(send, range(8)) for result in found]
        accepted = [one["id"] for one in results if one["outcome"] == "accepted"]
        assert sorted(accepted) == sorted(one["id"] for one in events)
        assert {one["outcome"] for one in results} == {"accepted", "duplicate"}
        with processes[0].client("player") as client:
            assert value(client, "totals") == {
                "xp": sum(number for number in range(1, 21) if number % 3),
                "points": sum(number for number in range(1, 21) if not number % 3),
                "events": 20,
            }
            assert value(client, "profile")["total_sessions"] == 6
            assert audit(client)["events"] == 20


@pytest.mark.parametrize("signal", ["kill", "end"])
def test_no_event_is_lost_or_doubled_by_a_process_that_dies(
    cluster_18: Cluster, signal: str
) -> None:
    """Devices send under load and again until they are answered, while processes are killed and
    started: what each account has at the end is what it sent, once."""
    url = cluster_18.clone()
    processes = [Process(url) for _ in range(2)]
    for process in processes:
        process.wait_until_ready()
    stop = threading.Event()
    acknowledged: dict[str, list[int]] = {}

    def play(number: int) -> None:
        account, chance = f"player-{number}", random.Random(number)
        acknowledged[account] = []
        while not stop.is_set():
            events = [xp(chance.randint(-5, 20)) for _ in range(chance.randint(1, 4))]
            send_until_answered(processes, account, events, chance)
            acknowledged[account] += [one["payload"]["amount"] for one in events]

    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            playing = [pool.submit(play, number) for number in range(WRITERS)]
            try:
                for number in range(KILLS):
                    time.sleep(0.7)
                    getattr(processes[number % 2], signal)()
                    processes[number % 2] = Process(url)
                    processes[number % 2].wait_until_ready()
            finally:
                stop.set()
            for one in playing:
                one.result()
        for account, amounts in acknowledged.items():
            assert len(amounts) > KILLS, "too little was sent to prove anything"
            with processes[0].client(account) as client:
                assert value(client, "totals")["xp"] == sum(amounts)
                assert audit(client)["events"] == len(amounts)
    finally:
        for process in processes:
            process.end()


def send_until_answered(
    processes: list[Process], account: str, events: list[Json], chance: random.Random
) -> None:
    """As an outbox does: the same events, to whichever process, until there is an answer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with processes[chance.randrange(2)].client(account) as client:
                answer = client.post("/v1/events", json={"events": events})
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == 503:
            time.sleep(0.05)
            continue
        assert answer.status_code == 200, answer.text
        assert set(outcomes(answer.json()["results"])) <= {"accepted", "duplicate"}
        return
    raise AssertionError("no process answered for a minute")


def test_an_event_that_the_database_refuses_takes_no_other_with_it(cluster_18: Cluster) -> None:
    """What nobody thought of is refused alone, and the rest of the request stands."""
    url = cluster_18.clone()
    fetch(url, "alter table events add constraint poison check (payload->>'game' <> 'poison')")
    process = Process(url)
    try:
        process.wait_until_ready()
        with process.client(f"player-{uuid4()}") as client:
            bad = {**xp(5), "payload": {"amount": 5, "game": "poison"}}
            results = record(client, xp(1), bad, xp(2))
            assert outcomes(results) == ["accepted", "internal", "accepted"]
            assert value(client, "totals")["xp"] == 3
            audit(client)
    finally:
        process.end()
