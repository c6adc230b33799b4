"""What an operator sees before and when changed rules are deployed."""

from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Invoke, Serve
from tests.conftest import Service

RULES = "from merge_rules import *\ndef register(r):\n    r.register('game_stats', {})\n"


def write_two_edits(service: Service) -> None:
    """Two devices raise a number at once, under last write wins: one raise is lost."""
    with service.client("maja") as client:
        for value, base, device in (({"coins": 3}, 0, "a"), ({"coins": 4}, 1, "a")):
            body = {"value": value, "base": base, "device": device}
            client.put("/v1/documents/game_stats", json=body)
        body = {"value": {"coins": 5}, "base": 1, "device": "b"}
        client.put("/v1/documents/game_stats", json=body)


def test_replay_shows_what_would_differ(
    invoke: Invoke, start_service: Callable[..., Service], folder: Path
) -> None:
    """Before a rule is changed, the documents that it would have saved are listed."""
    service = start_service()
    write_two_edits(service)
    (folder / "new.py").write_text(RULES.format("record({'coins': counter})"))
    result = invoke(
        "rules", "replay", "--rules", "new.py", SYNCLINE_DATABASE_URL=service.database_url
    )
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if "/coins" in line]
    assert row.split()[1::2] == ["maja", "game_stats", "/coins", "5", "6"]
    assert (
        "1 documents, 1 of them under a rule that new.py changes: 1 would differ" in result.stdout
    )
    with service.client("maja") as client:
        assert client.get("/v1/documents/game_stats").json()["version"] == 3, "nothing is written"


def test_replay_of_a_module_that_cannot_be_loaded(
    invoke: Invoke, start_service: Callable[..., Service]
) -> None:
    """One sentence, no traceback."""
    url = start_service().database_url
    result = invoke("rules", "replay", "--rules", "gone.py", SYNCLINE_DATABASE_URL=url)
    assert (result.exit_code, "gone.py is not a file" in result.stderr) == (1, True)


def test_a_change_that_cannot_be_followed_ends_the_start(
    serve: Callable[..., Serve], start_service: Callable[..., Service], folder: Path
) -> None:
    """The operator reads which path and rules are meant, and the documents stay as they are."""
    service = start_service()
    write_two_edits(service)
    url = service.database_url
    (folder / "old.py").write_text(RULES.format("record({'coins': maximum})"))
    started = serve(SYNCLINE_DATABASE_URL=url, SYNCLINE_RULES="old.py").greeted()
    with started.client("maja") as client:
        body = {"value": {"coins": 9}, "base": 3, "device": "a"}
        assert client.put("/v1/documents/game_stats", json=body).status_code == 200
    (folder / "new.py").write_text(RULES.format("record({'coins': union})"))
    refused = serve(SYNCLINE_DATABASE_URL=url, SYNCLINE_RULES="new.py")
    assert refused.process.wait(30) == 1
    said = refused.said()
    assert "/coins was maximum, which is a number; union takes an array" in said
    assert "Traceback" not in said
