"""The documents tell the truth: their examples run."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from click.testing import CliRunner

from app.cli import main
from merge_rules import Registry, load_rules
from merge_rules.documents import shipped_registry
from tests.conftest import Service
from tests.ledger.wire import event, outcomes, record, xp

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OWN_RULES = (ROOT / "docs/how-to/own-rules.md").read_text()
EVENTS = (ROOT / "docs/how-to/events.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_conversation_of_the_readme_answers_as_printed(service: Service) -> None:
    """A newcomer pastes three requests and must see what the page shows."""
    requests = [block for block in blocks(README, "sh") if "curl -X PUT" in block]
    answers = blocks(README, "json")
    assert len(requests) == len(answers) == 3
    with service.client() as client:
        for request, expected in zip(requests, answers, strict=True):
            path = re.search(r"localhost:8080(\S+)", request)
            body = re.search(r"-d '(.*)'", request)
            assert path is not None
            assert body is not None
            answer = client.put(path[1], content=body[1].encode())
            assert without_time(answer.content) == without_time(expected.encode())


def without_time(answer: bytes) -> dict[str, object]:
    content: dict[str, object] = msgspec.json.decode(answer)
    content.pop("updated_at")
    return content


def test_the_tutorial_runs_as_written(service: Service) -> None:
    """The loop of an offline client must work when it is pasted, quotes and all."""
    tutorial = (ROOT / "docs/tutorial.md").read_text()
    bodies = re.findall(r"^sync '(.*?)'$", tutorial, re.DOTALL | re.MULTILINE)
    assert len(bodies) == 2
    with service.client() as client:
        answers = [client.post("/v1/sync", content=body.encode()) for body in bodies]
        again = client.post("/v1/sync", content=bodies[1].encode())
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].json()["results"][0]["outcome"] == "applied"
    assert again.json()["results"][0]["outcome"] == "duplicate"


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    (code,) = blocks(OWN_RULES, "python")
    path = tmp_path / "my_rules.py"
    path.write_text(code)
    return path


def test_the_example_of_own_rules_registers(rules_file: Path) -> None:
    """The page's module is the first that an app developer copies."""
    registry: Registry = shipped_registry()
    load_rules(registry, str(rules_file))
    assert registry.rule_for("inventory").name == "record"
    assert registry.rule_for("deck:water") is registry.registered()["deck:*"]


def test_the_example_of_own_rules_merges_as_told(
    rules_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says 12 coins and the lamp."""
    monkeypatch.setenv("SYNCLINE_RULES", str(rules_file))
    options = re.findall(r"--(base|ours|theirs) '(.*?)'", OWN_RULES)
    assert len(options) == 3
    arguments = [part for name, value in options for part in (f"--{name}", value)]
    result = CliRunner().invoke(
        main, ["rules", "explain", "inventory", *arguments], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert re.search(r"/coins .*12", result.output)
    assert re.search(r'/items .*\["lamp"\]', result.output)


def test_own_rules_serve(rules_file: Path, start_service: object) -> None:
    """What the page registers merges real writes over HTTP."""
    assert callable(start_service)
    service: Service = start_service(rules=str(rules_file))
    with service.client() as client:
        write(client, 0, "a", {"coins": 10, "items": ["rope"]})
        write(client, 1, "a", {"coins": 7, "items": ["rope", "lamp"]})
        merged = write(client, 1, "b", {"coins": 15, "items": []})
    assert merged["value"] == {"coins": 12, "items": ["lamp"]}


def write(client: httpx.Client, base: int, device: str, value: object) -> dict[str, object]:
    body = {"base": base, "device": device, "value": value}
    answer: dict[str, object] = client.put("/v1/documents/inventory", json=body).json()
    return answer


def test_the_example_of_events_counts_as_told(service: Service) -> None:
    """The page says what is accepted, what is refused and why, and what the totals are then."""
    (request,) = (block for block in blocks(EVENTS, "sh") if "/v1/events" in block)
    body = re.search(r"-d '(.*)'", request, re.DOTALL)
    assert body is not None
    with service.client() as client:
        results = client.post("/v1/events", content=body[1].encode()).json()["results"]
        assert outcomes(results) == ["accepted", "accepted", "invalid-event"]
        totals = client.get("/v1/documents/totals").json()["value"]
        shown = re.search(r"^\| `totals` \| `(\{.*?\})`", EVENTS, re.MULTILINE)
        assert shown is not None
        assert totals == msgspec.json.decode(shown[1])


def test_the_example_of_an_own_event_type_serves(
    tmp_path: Path, start_service: Callable[..., Service]
) -> None:
    """The module of the page is the first that an app developer copies."""
    (code,) = blocks(EVENTS, "python")
    path = tmp_path / "my_events.py"
    path.write_text(code)
    with start_service(rules=str(path)).client() as client:
        results = record(
            client,
            event("purchase", {"item": "lamp", "price": 3}),
            event("purchase", {"item": "lamp", "price": 0}),
            xp(501),
        )
    assert outcomes(results) == ["total-below-minimum", "invalid-event", "amount-over-cap"]


def test_doctests_of_the_package_run() -> None:
    """The docstring of merge_rules is its shortest tutorial."""
    done = subprocess.run(
        [sys.executable, "-m", "doctest", str(ROOT / "merge_rules/__init__.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plan_for_growth_adds_up() -> None:
    """Who changes a measured figure there must not leave old results beside it."""
    page = (ROOT / "docs/explanation/growing.md").read_text()
    found = re.search(r"```python\n(.*?)```\n```text\n(.*?)```", page, re.DOTALL)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-c", found[1]], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (found[2], "")


PAGES = [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A dead link is the first thing that a newcomer finds."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
