"""The benchmarks of sockets: they must keep running, whatever the figures are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def _bench(file: Path, *arguments: str) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--json", str(file)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_sockets_are_connected_and_kept(tmp_path: Path) -> None:
    """A socket that was closed meanwhile would make the others look cheap."""
    figures = _bench(tmp_path / "figures", "sockets", "--sockets", "100", "--seconds", "1")
    assert figures["sockets"] == 100
    assert figures["idle_share"] >= 0


def test_every_write_is_pushed_to_both_devices(tmp_path: Path) -> None:
    """Latencies of what arrived say nothing if something did not."""
    figures = _bench(
        tmp_path / "figures", "push", "--sockets", "40", "--rate", "50", "--seconds", "2"
    )
    assert figures["missing"] == 0
    assert figures["deliveries"] > 100


@pytest.mark.parametrize("jitter", ["--jitter", "--no-jitter"])
def test_all_come_back_after_a_storm(tmp_path: Path, jitter: str) -> None:
    """Nobody is refused, and nobody's writes fail meanwhile."""
    figures = _bench(tmp_path / "figures", "storm", "--sockets", "100", jitter)
    assert figures["attempts"] == 100
    assert figures["refused"] == figures["failed_writes"] == 0
