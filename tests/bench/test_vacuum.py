"""The comparison of autovacuum's settings: it must keep running when the tables change."""

import json
import subprocess
import sys
from pathlib import Path

from bench.vacuum import TABLES


def test_both_settings_are_measured(tmp_path: Path) -> None:
    """Its statements name columns: one that a migration adds without a default would stop it."""
    file = tmp_path / "run.json"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "bench.vacuum", "--seconds", "2", "--rate", "100"),
            *("--json", str(file)),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(file.read_bytes())
    assert set(found) == {"defaults", "ours"}
    for variant in found.values():
        assert set(variant["tables"]) == {*TABLES, "documents (toast)"}
        assert variant["transactions"] > 50
        assert variant["tables"]["documents"]["updates"] > 0
