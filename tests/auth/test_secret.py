"""The development secret: made once, whole, and readable by its owner alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.auth.secret import development_secret, hs256_secret
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


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """Workers start together; two secrets would refuse every second request."""
    program = (
        "import sys, time; from pathlib import Path; from app.auth.secret import *\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(50): print(development_secret(Path(sys.argv[1]) / str(n)))\n"
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
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
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
