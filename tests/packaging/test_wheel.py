"""What is installed works without the checkout."""

import json
import os
import re
import signal
import subprocess
import sys
import venv
from pathlib import Path

import httpx


def test_an_install_serves_and_measures_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    """Migrations, the benchmark and all else that the commands need must be in the wheel, which
    is compiled where it can be."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SYNCLINE_", "PYTHON"))}
    environment |= {"HOME": str(tmp_path / "home"), "SYNCLINE_PORT": "0"}
    (tmp_path / "home").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel],
        check=True,
        cwd=elsewhere,
        env=os.environ | {"HOME": environment["HOME"]},
    )
    (elsewhere / "rules.py").write_text("def register(registry):\n    pass\n")
    check = subprocess.run(
        [tmp_path / "venv/bin/syncline", "rules", "check", "rules.py"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.stderr == (
        "syncline: rules are checked with Hypothesis: pip install 'syncline[testing]'\n"
    )
    quick = ("--seconds", "1", "--warm-up", "0", "--rounds", "1", "--accounts", "20")
    measured = subprocess.run(
        [
            *(tmp_path / "venv/bin/syncline", "bench", *quick),
            *("--only", "W1", "--generator", "python", "--json", "figures.json"),
        ],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert measured.returncode == 0, measured.stderr
    assert "Requests come from: Python" in measured.stderr
    figures = json.loads((elsewhere / "figures.json").read_bytes())
    assert figures["ratios"]["W1"][0]["value"] > 0
    assert figures["machine"]["compiled"] is not wheel.name.endswith("-py3-none-any.whl")
    process = subprocess.Popen(
        [tmp_path / "venv/bin/syncline", "serve"],
        cwd=elsewhere,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.strip().endswith("syncline demo"):
                break
        address = re.search(r"listens on (http://\S+)", said)
        assert address is not None, said
        ready = httpx.Client(transport=httpx.HTTPTransport(retries=5), timeout=30)
        assert ready.get(f"{address[1]}/readyz").json() == {"status": "ready"}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert sys.executable != str(python)
