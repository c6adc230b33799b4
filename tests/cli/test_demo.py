"""The demo: the first thing that a newcomer sees must be true, and must be able to fail."""

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console

from app import demo
from tests.cli.conftest import Invoke
from tests.conftest import SECRET, Service

Lie = Callable[[dict[str, Any]], None]


def _play(service: Service, width: int = 80) -> tuple[bool, list[str]]:
    text = io.StringIO()
    account = f"demo-{time.monotonic_ns()}"
    good = demo.play(service.url, service.token(account), Console(file=text, width=width))
    return good, text.getvalue().splitlines()


def test_the_demo_shows_what_the_rules_promise(service: Service) -> None:
    """Each row is a promise of a rule: sums, maxima, unions, removals, the undo, the later edit."""
    good, lines = _play(service)
    assert good
    rows = [" ".join(line.split()) for line in lines]
    for row in (
        "score 1200 1350 1280 1350 maximum phone",
        "longest_streak 7 - 9 9 maximum tablet",
        "games_played 10 13 (+3) 12 (+2) 15 counter both",
        "correct_answers 80 104 (+24) 95 (+15) 119 counter both",
        "best_scores/maths 210 - 260 260 maximum tablet",
        "best_scores/quiz 300 340 - 340 maximum phone",
        "theme dark light, dark - dark last write phone",
        "volume 50 80 30 80 last write phone",
        "text_size normal small large large last write tablet",
        "ai_themes/forest - green green last write tablet",
        "ai_themes/retro amber orange removed removed removal tablet",
        "unlocked_count 4 6 5 6 maximum phone",
        "best_stars/l2 1 2 3 3 maximum tablet",
        "completed l1 l1 l2 l1 l3 l1 l2 l3 union both",
    ):
        assert row in rows
    assert any("4 duplicate. Nothing counts twice." in row for row in rows)
    (same,) = [row for row in rows if row.startswith("Both hold the same bytes")]
    words = same.split()
    assert words[-1] == words[-3]


@pytest.mark.parametrize("width", [80, 120])
def test_the_demo_fits_a_terminal(service: Service, width: int) -> None:
    """A table that wraps or is cut off at 80 columns is no pleasure to read."""
    _, lines = _play(service, width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def _alters_a_change(answer: dict[str, Any]) -> None:
    if answer["changes"] and not answer["results"]:
        answer["changes"][0]["value"]["extra"] = "not what the tablet holds"


def _alters_what_all_see(answer: dict[str, Any]) -> None:
    for part in (*answer["changes"], *answer["results"]):
        if "games_played" in (part.get("value") or {}):
            part["value"]["games_played"] = 18


def _drops_a_change(answer: dict[str, Any]) -> None:
    answer["changes"] = answer["changes"][1:]


def _counts_twice(answer: dict[str, Any]) -> None:
    for result in answer["results"]:
        if result["outcome"] == "duplicate":
            result["outcome"] = "merged"


def _is_broken(answer: dict[str, Any]) -> None:
    answer.pop("cursor")


@pytest.mark.parametrize(
    "lie", [_alters_a_change, _alters_what_all_see, _drops_a_change, _counts_twice, _is_broken]
)
def test_a_service_that_lies_is_found_out(
    service: Service, lie: Lie, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demo that cannot fail shows nothing."""
    honest = httpx.HTTPTransport.handle_request

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        response = honest(transport, request)
        if request.url.path != "/v1/sync":
            return response
        answer = msgspec.json.decode(response.read())
        lie(answer)
        return httpx.Response(200, json=answer, request=request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    good, lines = _play(service)
    assert not good
    assert any("This went wrong" in line for line in lines)


def test_a_service_that_is_not_there_is_a_sentence() -> None:
    """A service that dies during the demo must not show a newcomer a traceback."""
    text = io.StringIO()
    assert not demo.play("http://127.0.0.1:1", "token", Console(file=text, width=80))
    assert "This went wrong" in text.getvalue()


def test_the_demo_runs_in_an_empty_folder_and_leaves_nothing(folder: Path) -> None:
    """The first command of a newcomer needs no set-up, and must not litter the machine."""
    home, temporary = folder / "home", folder / "tmp"
    for path in (home, temporary):
        path.mkdir(mode=0o755)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SYNCLINE_")}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "SYNCLINE_PORT": str(free)}
    done = subprocess.run(
        [Path(sys.executable).with_name("syncline"), "demo"],
        env=environment | {"COLUMNS": "80"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Both hold the same bytes" in done.stdout
    assert f"curl -X PUT http://127.0.0.1:{free}/v1/documents/notes" in done.stdout
    assert list(home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert _processes_of(str(temporary)) == []


def _processes_of(folder: str) -> list[str]:
    """The processes that name a folder in their command line or environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if folder.encode() in words:
                found.append(words.decode(errors="replace")[:200])
    return found


def test_the_demo_is_repeatable_on_a_running_service(service: Service, invoke: Invoke) -> None:
    """A second run on the same service must not meet the documents of the first."""
    for _ in range(2):
        result = invoke("demo", "--url", service.url + "/", SYNCLINE_JWT_SECRET=SECRET)
        assert result.exit_code == 0, result.output
        assert f"Using the service at {service.url}." in result.output
        assert f"the API docs are at {service.url}/docs" in result.output


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://[", "other secret"])
def test_the_demo_says_that_it_cannot_use_a_service(
    service: Service, invoke: Invoke, url: str
) -> None:
    """A service that was asked for is never silently replaced by another one."""
    address = service.url if url == "other secret" else url
    result = invoke("demo", "--url", address, SYNCLINE_JWT_SECRET="x" * 40)
    assert result.exit_code == 1
    assert f"syncline: no service at {address} that accepts a token" in result.output
