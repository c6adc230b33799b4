"""`syncline levels`: an operator publishes from a file, as a deployment does."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke
from tests.conftest import Cluster

LEVELS = [
    {"level": "intro-1", "min_correct": 7, "xp_reward": 15},
    {"level": "drill", "min_correct": 0, "xp_reward": 1, "repeat": "every"},
]


@pytest.fixture
def url(cluster_18: Cluster) -> str:
    return cluster_18.clone()


def test_levels_are_published_from_a_file_and_listed(invoke: Invoke, url: str) -> None:
    """The file is the body of the route, and publishing it with each deployment changes nothing."""
    assert "No catalogue" in invoke("levels", "list", SYNCLINE_DATABASE_URL=url).stdout
    Path("levels.json").write_text(json.dumps({"levels": LEVELS}))
    for _ in range(2):
        result = invoke("levels", "publish", "levels.json", SYNCLINE_DATABASE_URL=url)
        assert (result.exit_code, result.stdout) == (0, "Catalogue 1 has these 2 levels.\n")
    listed = invoke("levels", "list", SYNCLINE_DATABASE_URL=url).stdout
    for words in ("intro-1", "7", "15", "first", "every", "Catalogue 1: 2 levels."):
        assert words in listed


def test_a_publisher_who_saw_another_version_is_told(invoke: Invoke, url: str) -> None:
    """Two operators with a file each; the second names the version that it edited."""
    Path("levels.json").write_text(json.dumps({"levels": LEVELS}))
    Path("other.json").write_text(json.dumps({"levels": LEVELS[:1]}))
    publish = ("levels", "publish")
    first = invoke(*publish, "levels.json", "--version", "0", SYNCLINE_DATABASE_URL=url)
    assert first.exit_code == 0, first.output
    late = invoke(*publish, "other.json", "--version", "0", SYNCLINE_DATABASE_URL=url)
    assert late.exit_code == 1
    assert late.stderr.startswith("syncline: precondition-failed: Another catalogue")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "malformed-json"),
        ('{"levels": [{"level": "a b", "min_correct": 1, "xp_reward": 1}]}', "levels[0].level"),
        ('{"level": []}', "unknown field `level`"),
    ],
)
def test_a_bad_file_is_one_sentence(invoke: Invoke, url: str, text: str | None, words: str) -> None:
    """A deployment's log has to say what to mend."""
    if text is not None:
        Path("levels.json").write_text(text)
    result = invoke("levels", "publish", "levels.json", SYNCLINE_DATABASE_URL=url)
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
