"""Growth: what is filled in must be what the service itself would have stored."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import fill
from bench.generators import FailedRun
from bench.meters import query
from bench.plot import line_chart
from bench.workloads import GROWTH_KEYS
from tests.conftest import Service

ACCOUNTS = 12
CATALOG = """
select conrelid::regclass::text || ' ' || pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'public'::regnamespace
union all select indexdef from pg_indexes where schemaname = 'public' order by 1
"""


def value_of(service: Service, account: str, key: str) -> dict[str, Any]:
    with service.client(account) as client:
        answer = client.get(f"/v1/documents/{key}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def test_the_service_reads_and_merges_what_was_filled_in(
    start_service: Callable[..., Service],
) -> None:
    """Else the figures would be those of documents that nobody has."""
    service = start_service()
    url = service.database_url
    names = fill.make_templates(service.url, service.token)
    made = [[value_of(service, name, key) for key in GROWTH_KEYS] for name in names]
    catalog = query(url, CATALOG)
    templates = fill.read_templates(url, names)
    told: list[int] = []
    fill.fill_tables(url, templates, ACCOUNTS, lambda _, count: told.append(count))
    assert sum(told) == ACCOUNTS * len(fill.filled(templates))
    assert query(url, CATALOG) == catalog, "every key and index is back"
    assert query(url, "select count(*) from documents")[0][0] == ACCOUNTS * len(GROWTH_KEYS)
    for number in range(ACCOUNTS):
        account = fill.account_name(number)
        found = [value_of(service, account, key) for key in GROWTH_KEYS]
        assert found == made[number % len(names)]
    account = fill.account_name(fill.MERGED)
    before = value_of(service, account, "user_stats")
    assert before["version"] > 1, "two devices wrote it"
    current = before["value"] | {"xp": before["value"]["xp"] + 5}
    stale = {"xp": 1_000, "level": 1}
    with service.client(account) as client:
        body = {"base": before["version"], "device": fill.DEVICES[0], "value": current}
        answer = client.put("/v1/documents/user_stats", json=body).json()
        assert (answer["outcome"], answer["value"]) == ("applied", current)
        body = {"base": before["version"], "device": "another", "value": stale}
        answer = client.put("/v1/documents/user_stats", json=body).json()
        assert answer["outcome"] == "merged"
        assert answer["value"]["xp"] == 1_005, "what both devices did since that version"
        first = client.post("/v1/sync", json={"device": "another", "mutations": []}).json()
        assert len(first["changes"]) == len(GROWTH_KEYS)


def test_a_short_run_tells_every_figure(tmp_path: Path) -> None:
    """The command itself, at sizes that take seconds."""
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "growth", "--sizes", "250,1000"),
            *("--seconds", "1", "--warm-up", "0", "--rounds", "1", "--generator", "python"),
            *("--active", "20"),
            *("--json", str(tmp_path / "run.json"), "--svg", str(tmp_path / "run.svg")),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads((tmp_path / "run.json").read_bytes())
    assert report["write_cost_ratio"] > 0
    steps = report["result"]["steps"]
    assert [step["documents"] for step in steps] == [250, 1_000]
    assert [step["drawn_accounts"] for step in steps] == [10, 20]
    for step in steps:
        assert set(step["rounds"]) == {"R1", "pull-0", "pull-3", "W1"}
        assert {"heads", "documents", "revisions"} <= set(step["bytes"])
        for (measured,) in step["rounds"].values():
            assert measured["load"]["errors"] == 0
            assert measured["load"]["requests"] > 0
    drawing = ElementTree.parse(tmp_path / "run.svg")
    assert len(drawing.findall("{http://www.w3.org/2000/svg}circle")) == 4 * len(steps)


def test_a_full_disk_is_foreseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half an hour of filling that ends in an error of PostgreSQL helps nobody."""
    monkeypatch.setattr(fill, "disk_usage", lambda _: SimpleNamespace(free=20 * 10**9))
    fill.check_room(tmp_path, 1_000_000, fill.BYTES_PER_DOCUMENT)
    with pytest.raises(FailedRun, match=r"35 GB.*20 GB free: name another folder by --folder"):
        fill.check_room(tmp_path, 10_000_000, fill.BYTES_PER_DOCUMENT)


def test_names_beside_the_lines_do_not_cover_each_other() -> None:
    """Lines that end together are the very ones that one wants to tell apart."""
    drawn = ElementTree.fromstring(
        line_chart("t", "x", "y", [10, 1_000], {"a & b": [1.0, 2.0], "c": [1.0, 2.01]})
    )
    texts = drawn.findall("{http://www.w3.org/2000/svg}text")
    heights = [float(text.attrib["y"]) for text in texts if text.text in ("a & b", "c")]
    assert abs(heights[0] - heights[1]) >= 16
