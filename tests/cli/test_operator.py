"""What an operator reads: no secrets, no tracebacks, and the cause rather than its wrapping."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from app.command import command
from tests.cli.conftest import OWN_SECRETS, Invoke, Serve, clean_environment
from tests.conftest import Cluster
from tests.sync.database import execute

SCRIPT = Path(sys.executable).with_name("syncline")
HIDDEN = "pa-hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://u:{HIDDEN}/ss@h/db", "postgresql://u:(set)@h/db"),
        (f"postgresql://u:{HIDDEN}#ss@h", "postgresql://u:(set)@h"),
        (f"postgresql://u:{HIDDEN}?ss@h/db", "postgresql://u:(set)@h/db"),
        (f"postgresql://u/x:{HIDDEN}@h/db", "postgresql://u(set)@h/db"),
        (f"postgresql://h/db?sslpassword={HIDDEN}", "postgresql://h/db?sslpassword=(set)"),
        (f"postgresql://h/db?a=b&PASSWORD=x@{HIDDEN}", "postgresql://h/db?a=b&PASSWORD=(set)"),
        (f"host=h user=u password={HIDDEN}", "(set)"),
        (f"postgresql://u:{HIDDEN}/db", "(set)"),
        (f"u:{HIDDEN}@h/db", "(set)"),
    ],
)
def test_config_hides_passwords_however_they_are_written(
    invoke: Invoke, url: str, shown: str
) -> None:
    """A password that had to be escaped and was not is a password all the same."""
    result = invoke("config", SYNCLINE_DATABASE_URL=url)
    (line,) = (one for one in result.stdout.splitlines() if "SYNCLINE_DATABASE_URL" in one)
    assert line.rstrip(" │").endswith(shown)
    assert "hunter2" not in result.stdout


def _execute(url: str, *statements: str) -> None:
    asyncio.run(execute(url, *statements))


@pytest.fixture
def guest(cluster: Cluster) -> Callable[[str], str]:
    """Turns the URL of a database into one for a role that may connect to it and no more."""
    name = f"guest_{secrets.token_hex(4)}"
    _execute(cluster.url, f"create role {name} login password 'guest'")

    def url(database_url: str) -> str:
        parts = urlsplit(database_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{name}:guest@{host}"))

    return url


def test_migrating_without_rights_is_one_sentence(
    invoke: Invoke, cluster: Cluster, guest: Callable[[str], str]
) -> None:
    """Since PostgreSQL 15 a role may not create tables in `public`: the commonest first failure
    was forty lines of traceback."""
    name = f"empty_{secrets.token_hex(4)}"
    _execute(cluster.url, f"create database {name}")
    empty = urlunsplit(urlsplit(cluster.url)._replace(path=f"/{name}"))
    result = invoke("migrate", SYNCLINE_DATABASE_URL=guest(empty))
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "syncline: the upgrade was refused: permission denied for schema public; "
    )
    assert result.stderr.count("\n") == 1
    assert "sqlalche" not in result.output


def test_a_dump_on_another_server_lacks_the_role(invoke: Invoke, cluster: Cluster) -> None:
    """Dumps hold no roles. The start greeted first, and then ended with a traceback; what makes
    the role has to be said, and has to do."""
    url = cluster.clone()
    _execute(url, "revoke all on all tables in schema public from syncline_service")
    result = invoke("serve", SYNCLINE_DATABASE_URL=url, SYNCLINE_PORT="0")
    assert result.exit_code == 1
    assert result.output == "syncline: the database is not up to date: run `syncline migrate`\n"
    found = invoke("doctor", SYNCLINE_DATABASE_URL=url)
    assert found.exit_code == 1
    assert "syncline_service may not use the tables: run `syncline migrate`" in found.stdout
    assert invoke("migrate", SYNCLINE_DATABASE_URL=url).exit_code == 0
    assert "up to date" in invoke("doctor", SYNCLINE_DATABASE_URL=url).stdout


@pytest.mark.parametrize("arguments", [("serve",), ("migrate",), ("migrate", "--new-era")])
def test_tables_of_somebody_else_are_one_sentence(
    invoke: Invoke, cluster: Cluster, guest: Callable[[str], str], arguments: tuple[str, ...]
) -> None:
    """The server runs and the password is right, so the advice has to be about the role."""
    result = invoke(*arguments, SYNCLINE_DATABASE_URL=guest(cluster.clone()))
    assert result.exit_code == 1
    assert "permission denied for table" in result.stderr
    assert "its role has to own the tables" in result.stderr
    assert "that the server runs" not in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("password", "password authentication failed"),
        ("database", 'database "no_such" does not exist'),
        ("option", "the option `channel_binding` of the URL is not supported"),
    ],
)
def test_the_doctor_tells_a_refusal_from_silence(
    invoke: Invoke, cluster_18: Cluster, fault: str, words: str
) -> None:
    """Who is told that the server cannot be reached looks at the network, and not at the URL."""
    parts = urlsplit(cluster_18.url)
    host = parts.netloc.rpartition("@")[2]
    parts = {
        "password": parts._replace(netloc=f"syncline:wrong@{host}"),
        "database": parts._replace(path="/no_such"),
        "option": parts._replace(query=f"{parts.query}&channel_binding=require".lstrip("&")),
    }[fault]
    result = invoke("doctor", SYNCLINE_DATABASE_URL=urlunsplit(parts))
    assert result.exit_code == 1
    said = " ".join(result.stdout.replace("│", " ").split())
    assert f"it cannot be used: {words}" in said
    assert "reached" not in said
    assert "sqlalche" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("game_stats", "--base", '{"games_played": "x"}'), "--base: at /games_played: "),
        (("game_stats", "--base", "7"), "--base: "),
        (("game_stats", "--base", "{"), "--base: it is not JSON"),
        (("two words", "--base", "{}"), "A key is 1 to 128 characters"),
    ],
)
def test_explaining_what_cannot_be_is_one_sentence(
    invoke: Invoke, arguments: tuple[str, ...], words: str
) -> None:
    """The base went unchecked into the rule, which answered with a traceback."""
    result = invoke("rules", "explain", *arguments, "--ours", "{}", "--theirs", "{}")
    assert result.exit_code == 1
    assert words in result.stderr
    assert (result.stderr.count("\n"), result.stdout) == (1, "")


# --- a folder of one's own ---------------------------------------------------------------------


@pytest.fixture
def foreign(folder: Path) -> Path:
    """A project that has a package `app`, as half of all have."""
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("raise SystemExit('a foreign app was imported')")
    return folder


def test_the_demo_runs_in_a_folder_with_an_app_of_its_own(foreign: Path) -> None:
    """Python puts the present folder first, and the service of the demo was somebody else's."""
    done = subprocess.run(
        [SCRIPT, "demo"],
        cwd=foreign,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "foreign" not in done.stdout + done.stderr


def test_workers_start_in_a_folder_with_an_app_of_its_own(
    foreign: Path, cluster_18: Cluster
) -> None:
    """Each worker is a new interpreter, which looks for its modules anew."""
    variables = {"SYNCLINE_DATABASE_URL": cluster_18.clone(), "SYNCLINE_WORKERS": "2"}
    variables |= OWN_SECRETS  # without a warning, the address comes first
    process = subprocess.Popen(
        [SCRIPT, "serve"],
        cwd=foreign,
        env=clean_environment(**variables),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        url = process.stderr.readline().rpartition(" ")[2].strip()
        assert httpx.get(f"{url}/readyz", timeout=30).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_headers_are_bounded_by_a_setting_in_each_worker(
    serve: Callable[..., Serve], cluster_18: Cluster
) -> None:
    """The protocol has to reach the processes that serve, and the setting the protocol."""
    for workers in ("1", "2"):
        service = serve(
            SYNCLINE_DATABASE_URL=cluster_18.clone(),
            SYNCLINE_WORKERS=workers,
            SYNCLINE_MAX_HEADER_BYTES="1000",
        ).greeted()
        short, long = {"X": "a" * 500}, {"X": "a" * 1_000}
        assert httpx.get(f"{service.url}/livez", headers=short, timeout=30).status_code == 200
        answer = httpx.get(f"{service.url}/livez", headers=long)
        assert (answer.status_code, answer.json()["code"]) == (431, "headers-too-large")


def test_the_greeting_says_what_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first command of the README installs into a folder that no shell looks into, and what
    the greeting said next was not found."""
    script = tmp_path / "a folder" / "syncline"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script), "serve"])
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    assert command() == "'a folder/syncline'"
    monkeypatch.chdir("/")
    assert command() == f"'{script.relative_to('/')}'"
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}/usr/bin")
    assert command() == "syncline"


def test_boards_are_not_kept_from_before_the_calendar(invoke: Invoke) -> None:
    """A million weeks ago there was no year: every request for a board would fail."""
    result = invoke("config", SYNCLINE_BOARD_WEEKS="1000000")
    assert result.exit_code == 1
    assert result.stderr.startswith("syncline: SYNCLINE_BOARD_WEEKS: ")


def test_an_endless_drain_is_refused(invoke: Invoke) -> None:
    """A service that never stops listening cannot be replaced."""
    for value in ("inf", "nan", "1e9"):
        result = invoke("config", SYNCLINE_DRAIN_S=value)
        assert result.exit_code == 1
        assert result.stderr.startswith("syncline: SYNCLINE_DRAIN_S: ")
