"""Secrets that are made here: once, whole, and readable by their owner alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.auth.secret import admin_token, development_secret, hs256_secret
from app.settings import Settings, SettingsError


def test_the_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    """Tokens must survive a restart."""
    data = tmp_path / "new" / "data"
    secret = development_secret(data)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43,}", secret)
    assert development_secret(data) == secret
    assert [path.name for path in data.iterdir()] == ["secret"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    """Who reads the secret can be any account; a lax umask must not open it."""
    development_secret(tmp_path)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_two_data_directories_have_two_secrets(tmp_path: Path) -> None:
    """A secret that is the same everywhere would be no secret."""
    assert development_secret(tmp_path / "a") != development_secret(tmp_path / "b")


def made_by_four_processes(tmp_path: Path, expression: str) -> list[list[str]]:
    """What `expression` gives for fifty folders `f`, in four processes that begin together."""
    program = (
        "import sys; from pathlib import Path; from app.settings import Settings\n"
        "from app.auth.secret import *\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(50):\n"
        "    f = Path(sys.argv[1]) / str(n)\n"
        f"    print({expression})\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[0].splitlines() for process in processes]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """Workers start together; two secrets would refuse every second request."""
    printed = made_by_four_processes(tmp_path, "development_secret(f)")
    assert len(printed[0]) == len(set(printed[0])) == 50
    assert all(secrets == printed[0] for secrets in printed)
    assert all([p.name for p in folder.iterdir()] == ["secret"] for folder in tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 50, b"with space " * 9])
def test_a_damaged_secret_stops_the_start(tmp_path: Path, content: bytes) -> None:
    """An empty secret would let everybody in; the message says which file to delete."""
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match="secret"):
        development_secret(tmp_path)


def test_a_data_directory_that_is_a_file_is_a_settings_error(tmp_path: Path) -> None:
    """The operator's mistake must not end in a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="SYNCLINE_JWT_SECRET"):
        development_secret(tmp_path / "file")


def test_which_secret_counts(tmp_path: Path) -> None:
    """With JWKS alone HS256 is off: a forgotten development secret must open nothing."""
    data, url, own = str(tmp_path), "https://id.example/keys", "s" * 32
    assert hs256_secret(Settings(data_dir=data, jwt_secret=own)) == own
    assert hs256_secret(Settings(data_dir=data, jwt_secret=own, jwks_url=url)) == own
    assert hs256_secret(Settings(data_dir=data, jwks_url=url)) is None
    assert list(tmp_path.iterdir()) == []
    assert hs256_secret(Settings(data_dir=data)) == (tmp_path / "secret").read_text()


def test_an_admin_token_is_made_once_and_shown_by_one(tmp_path: Path) -> None:
    """Two tokens would lock the operator out of every second process; a token that each process
    shows, or none, would be in every log, or in no hand."""
    expression = "(lambda t: f'{t.made:d} {t.text}')(admin_token(Settings(data_dir=str(f))))"
    printed = [
        [line.split() for line in lines] for lines in made_by_four_processes(tmp_path, expression)
    ]
    for rows in zip(*printed, strict=True):
        assert sum(int(made) for made, _ in rows) == 1
        assert len({text for _, text in rows}) == 1
    assert len({text for _, text in printed[0]}) == 50
    for folder in tmp_path.iterdir():
        (path,) = folder.iterdir()
        assert path.name == "admin-token"
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_operators_own_token_leaves_no_file(tmp_path: Path) -> None:
    """Who sets a token may have no folder that can be written; an old file must open nothing."""
    own = "o" * 32
    (tmp_path / "admin-token").write_text("f" * 43)
    token = admin_token(Settings(data_dir=str(tmp_path), admin_token=own))
    assert (token.text, token.made, token.path) == (own, False, None)
    assert own not in repr(token)
    assert admin_token(Settings(data_dir=str(tmp_path))).text == "f" * 43


def test_a_folder_that_cannot_hold_the_admin_token_names_the_variable(tmp_path: Path) -> None:
    """A container with a disk that is only read: the way out is the variable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="SYNCLINE_ADMIN_TOKEN"):
        admin_token(Settings(data_dir=str(tmp_path / "file")))
