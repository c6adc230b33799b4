"""The page about checking rules: its examples run and print what it shows."""

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from app import cli

PAGE = (Path(__file__).parents[2] / "docs/how-to/check-rules.md").read_text()
BY_HAND, MY_RULES, MY_TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
HOLDS, BROKEN = re.findall(r"```\n((?:profile: ).*?)```", PAGE, re.DOTALL)


def test_merging_by_hand_runs() -> None:
    """The first thing that a reader pastes."""
    exec(compile(BY_HAND, "check-rules.md", "exec"), {})


def test_the_test_of_the_page_passes() -> None:
    """It is copied into an app's own tests."""
    names: dict[str, object] = {"__name__": "my_rules"}
    exec(compile(MY_RULES + MY_TEST, "check-rules.md", "exec"), names)
    test = names["test_my_rules_hold"]
    assert callable(test)
    test()


@pytest.mark.parametrize(
    ("code", "printed"),
    [(MY_RULES, HOLDS), (MY_RULES.replace("(len(text), text)", "len(text)"), BROKEN)],
    ids=["holds", "broken"],
)
def test_the_command_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, printed: str
) -> None:
    """A story on the page that the command does not tell would send its reader astray."""
    (tmp_path / "my_rules.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(cli, "out", Console(width=200))
    command = re.search(r"^syncline (rules check my_rules.py .*)$", PAGE, re.MULTILINE)
    assert command is not None
    result = CliRunner().invoke(cli.main, command[1].split())
    assert result.stdout == printed
    assert result.exit_code == (0 if printed is HOLDS else 1)
