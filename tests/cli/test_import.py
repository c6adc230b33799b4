"""`syncline import` as an operator types it."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.cli import SOME_REJECTED
from app.operations.importing.mapping import MappingError, load_mapping, read_mapping, shipped
from tests.cli.conftest import Invoke, clean_environment
from tests.conftest import Cluster
from tests.importing.world import _fetch

ROW = '{"user_id": "u1", "data": {"plain": 1}}\n'


def test_without_a_mapping_those_that_ship_are_listed(invoke: Invoke) -> None:
    """The first thing that anybody types."""
    result = invoke("import")
    assert result.exit_code == 0
    for name in shipped():
        assert name in result.stdout


def test_a_shipped_mapping_can_be_made_ones_own(invoke: Invoke, folder: Path) -> None:
    """Whose column has another name copies the text and changes it."""
    text = invoke("import", "profiles", "--show").stdout
    (folder / "mine.toml").write_text(text.replace('"total_points"', '"points"'))
    assert "points" in load_mapping(str(folder / "mine.toml")).used_columns()
    assert load_mapping("profiles").openings


def test_an_import_from_the_first_command_to_the_second(
    invoke: Invoke, folder: Path, cluster_18: Cluster
) -> None:
    """Dry, wet, and again; what is rejected is in a file that only its owner reads."""
    url = cluster_18.clone()
    (folder / "old.jsonl").write_text(ROW + '{"data": {"plain": 1}}\n')
    arguments = ("import", "user_sync_data", "--from", "old.jsonl")
    dry = invoke(*arguments, "--dry-run", SYNCLINE_DATABASE_URL=url)
    assert dry.exit_code == SOME_REJECTED, dry.output
    assert "nothing was written" in dry.stdout
    assert (folder / "user_sync_data-dry-run.jsonl").exists()
    wet = invoke(*arguments, SYNCLINE_DATABASE_URL=url)
    assert wet.exit_code == SOME_REJECTED, wet.output
    assert "2 rows of" in wet.stdout
    rejects = folder / "user_sync_data-rejects.jsonl"
    assert rejects.stat().st_mode & 0o777 == 0o600
    (line,) = rejects.read_text().splitlines()
    told = json.loads(line)
    assert told["position"] == "row 2"
    assert [part["code"] for part in told["rejected"]] == ["account-missing"]
    assert told["row"] == {"data": {"plain": 1}}
    assert asyncio.run(_fetch(url, "select version from documents"))[0][0] == 1
    again = invoke(*arguments, SYNCLINE_DATABASE_URL=url)
    assert "known already" in again.stdout


def test_the_report_never_takes_the_place_of_what_is_read(
    invoke: Invoke, folder: Path, cluster_18: Cluster
) -> None:
    """Who mends the report and imports it again would find it empty."""
    url, text = cluster_18.clone(), ROW + "{}\n"
    for name, more in (
        ("user_sync_data-rejects.jsonl", ()),
        ("old.jsonl", ("--rejects", "old.jsonl")),
    ):
        (folder / name).write_text(text)
        arguments = ("import", "user_sync_data", "--from", name, *more)
        result = invoke(*arguments, SYNCLINE_DATABASE_URL=url)
        assert result.exit_code == 1
        assert "--rejects" in result.output
        assert (folder / name).read_text() == text


def test_several_places_one_after_the_other(
    invoke: Invoke, folder: Path, cluster_18: Cluster
) -> None:
    """Dumps come in parts; each has its own progress and its own report."""
    url = cluster_18.clone()
    for number in (1, 2):
        (folder / f"{number}.jsonl").write_text(ROW.replace("u1", f"u{number}") + "{}\n")
    places = ("--from", "1.jsonl", "--from", "2.jsonl", "--rejects", "bad.jsonl")
    result = invoke("import", "user_sync_data", *places, SYNCLINE_DATABASE_URL=url)
    assert result.exit_code == SOME_REJECTED, result.output
    assert asyncio.run(_fetch(url, "select count(*) from documents"))[0][0] == 2
    assert len((folder / "bad.jsonl").read_text().splitlines()) == 1
    assert len((folder / "bad-2.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("user_sync_data",), "name what to read with --from"),
        (("profile", "--from", "x.csv"), "neither a .toml or .json file nor one of"),
        (("none.toml", "--from", "x.csv"), "No such file"),
        (("profiles", "--from", "x.csv"), "is not a file"),
        (("profiles", "--from", "x.xlsx"), "neither a postgresql:// URL nor a file of"),
        (("profiles", "--from", "mysql://h/db"), "begins with postgresql://"),
        (("profiles", "--from", "x.csv", "--source", "No Name"), "--source"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    invoke: Invoke, cluster_18: Cluster, arguments: tuple[str, ...], said: str
) -> None:
    """No traceback for what an operator can mend."""
    result = invoke("import", *arguments, SYNCLINE_DATABASE_URL=cluster_18.clone())
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source = 1", "Expected `str`"),
        ('source = "a"\naccount = "{id}"', "it needs one of"),
        ('source = "A b"\naccount = "{id}"', "source"),
        ('source = "a"\naccount = "{id"\ndocuments = [{key="k", value="v"}]', "braces"),
        ('source = "a"\naccount = "{a}{b}"\ndocuments = [{key="k", value="v"}]', "between"),
        ('source = "a"\naccount = "{id}"\ndocuments = [{key="k"}]', "one of `value`, `fields`"),
        ('source = "a"\naccount = "{id}"\ndocuments = [{key="k", each="v"}]', "{member}"),
        ('source = "a"\naccount = "{id}"\ndocuments = [{key="a b", value="v"}]', "keys are"),
        ('source = "a"\naccount = "{id}"\ndocuments = [{key="k", value={as="json"}}]', "one of"),
        ('source = "a"\naccount = "{id}"\nopenings = [{}]', "names totals"),
        ('source = "a"\naccount = "{id}"\nopenings = [{streak_days="s"}]', "together"),
        ('source = "a"\naccount = "{id}"\nopening = []', "unknown field"),
        (
            'source = "a"\naccount = "{id}"\ndocuments = [{key="k", value="v"}]\n'
            'leave_out = {v = "no"}',
            "used, and named in `leave_out`",
        ),
        ("source = ", "a test"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_where(text: str, said: str) -> None:
    """It is written by hand, in a hurry."""
    with pytest.raises(MappingError, match="a test: ") as caught:
        read_mapping(text.encode(), ".toml", "a test")
    assert said in str(caught.value)


def test_a_stopped_import_says_that_it_goes_on(cluster_18: Cluster, folder: Path) -> None:
    """Ctrl-C is what an operator does when it takes too long."""
    url = cluster_18.clone()
    lines = "".join(ROW.replace("u1", f"u{n}") for n in range(60_000))
    (folder / "old.jsonl").write_text(lines)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "import", "user_sync_data", "--from", "old.jsonl"],
        cwd=folder,
        env=clean_environment(SYNCLINE_DATABASE_URL=url)
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background lets them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not asyncio.run(_fetch(url, "select done from imports")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert said == "syncline: stopped; the same command goes on from here.\n"
