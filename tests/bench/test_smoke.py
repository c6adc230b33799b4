"""The benchmark itself: it must keep running, whatever the figures are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.compiled import is_compiled
from app.sync.cursor import Cursor, decode_cursor
from bench.generators import fill
from bench.workloads import LESSON_KEYS, WORKLOADS
from bench.workloads import plan as workload_plan

OUTCOMES = {work.name: work.outcome for work in WORKLOADS}


def _run(file: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    quick = ("--seconds", "1", "--warm-up", "0", "--rounds", "1", "--accounts", "100")
    return subprocess.run(
        [sys.executable, "-m", "bench", *quick, "--json", str(file), *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _bench(file: Path, *arguments: str) -> dict[str, Any]:
    finished = _run(file, *arguments)
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    return report


def test_every_workload_runs_and_does_what_its_name_says(tmp_path: Path) -> None:
    """A load that fails, or does not merge where it should, would give figures of nothing."""
    report = _bench(tmp_path / "figures.json")
    assert report["machine"]["compiled"] is is_compiled()
    rounds = report["result"]["rounds"]
    assert set(rounds) == set(OUTCOMES)
    for name, outcome in OUTCOMES.items():
        (measured,) = rounds[name]
        assert measured["load"]["errors"] == 0
        assert measured["load"]["requests"] > 0
        if outcome is not None:
            found = measured["outcomes"]
            assert found[outcome] >= 0.999 * sum(found.values())
    of = {(name, ratio["of"]) for name, all_of in report["ratios"].items() for ratio in all_of}
    assert {("W1", "pgbench upsert"), ("W1-merge", "W1"), ("B1", "pgbench batch")} <= of


def test_a_setting_reaches_the_service(tmp_path: Path) -> None:
    """Else two settings would be compared that are one."""
    file = tmp_path / "figures.json"
    finished = _run(file, "--only", "W1", "--set", "SYNCLINE_MAX_DOCUMENT_BYTES=10")
    assert finished.returncode == 1
    assert "did not store all" in finished.stderr
    assert not file.exists()


def test_a_stale_write_is_filled_in() -> None:
    """A stale write names the version before the one that the database holds."""
    filled = fill('{"base":@b,"xp":@s0,"level":@n,"device":"@d","id":"@i"}', 15, stale=1)
    assert filled == '{"base":14,"xp":150,"level":16,"device":"1","id":"00000010"}'


def test_a_push_names_the_cursor_of_a_device_that_is_up_to_date() -> None:
    """Else a push would pull as well, and be measured for it."""
    tokens, versions = {"class-00000": "t"}, {("class-00000", LESSON_KEYS[0]): 7}
    (work,) = (work for work in WORKLOADS if work.name == "B1")
    plan = workload_plan(work, tokens, versions, "0123abcd")
    filled = json.loads(fill(plan.bodies[0], 7, plan.stale, plan.documents))
    assert decode_cursor(filled["cursor"]) == Cursor("0123abcd", 7 * len(LESSON_KEYS))


def test_fairness_is_measured_beside_a_flood(tmp_path: Path) -> None:
    """All three loads come through: the others without an error, and a flood that is one."""
    quick = ("fairness", "--seconds", "1", "--rounds", "1", "--accounts", "50")
    file = tmp_path / "figures.json"
    finished = subprocess.run(
        [sys.executable, "-m", "bench", *quick, "--json", str(file)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    loads = json.loads(file.read_text())
    for name in ("alone", "beside", "flood"):
        (load,) = loads[name]
        assert load["requests"] > 0


def test_boards_are_measured(tmp_path: Path) -> None:
    """The same figures have to come out again when somebody doubts them."""
    file = tmp_path / "figures.json"
    finished = subprocess.run(
        [sys.executable, "-m", "bench", "board", "--accounts", "300", "--requests", "5",
         "--json", str(file)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    measured = {(one["source"], one["changes"]) for one in report["times"]}
    assert measured == {("PostgreSQL", 0), ("PostgreSQL", 200), ("Redis", 0), ("Redis", 200)}
