"""PostgreSQL's processes as the system sees them: whom they run as, how they start and end.

PostgreSQL refuses root, so a root process starts it as somebody else.
"""

import ctypes
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

UNPRIVILEGED = ("nobody", "daemon", "bin")  # the first that this machine knows

# Numbers of linux/prctl.h, linux/capability.h and linux/securebits.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP = 6, 7, 8
_SECBIT_NO_SETUID_FIXUP = 4

_REMEDY = (
    "Set SYNCLINE_DATA_DIR to a directory of an ordinary user, such as /var/lib/syncline, and "
    "start Syncline as that user, or set SYNCLINE_DATABASE_URL to a PostgreSQL of your own."
)


class EmbeddedError(Exception):
    """The embedded database cannot serve; the text says what is wrong and what to do."""


class Account(NamedTuple):
    """The user to run PostgreSQL as, and to own its files."""

    uid: int
    gid: int
    name: str


def account_for(root: Path) -> Account | None:
    """The account for the cluster in `root`; None when this process is not root.

    An existing cluster keeps its owner, because PostgreSQL insists on that. A new one belongs
    to the owner of the directory around it, so that this user can go on without root, or else
    to an unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    for folder in (root / "data", root, root.parent):
        owner = _owner(folder)
        if owner is None or owner.st_uid == 0:
            continue
        # initdb refuses a user without a name; an existing cluster needs none.
        name = _name(owner.st_uid)
        if name or folder.name == "data":
            return Account(owner.st_uid, owner.st_gid, name)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedError(f"PostgreSQL refuses to run as root, and no other user exists. {_REMEDY}")


def _owner(folder: Path) -> os.stat_result | None:
    try:
        return folder.stat()
    except FileNotFoundError:
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def give(target: Path | int, account: Account | None) -> None:
    """Hand something that we created to the account."""
    if account is not None:
        os.chown(target, account.uid, account.gid)


def needs_bypass(account: Account | None, paths: Iterable[Path]) -> bool:
    """Whether the account cannot reach one of these paths; raises if nothing helps against it."""
    if account is None:
        return False
    closed = next(
        (
            folder
            for path in paths
            for folder in (path, *path.parents)
            if not _may_enter(account, folder.stat())
        ),
        None,
    )
    _require(account, closed)
    return closed is not None


def _may_enter(account: Account, status: os.stat_result) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _require(account: Account, closed: Path | None) -> None:
    """Containers may run root without the capabilities that this takes; say so beforehand."""
    if sys.platform != "linux":
        if closed is not None:
            raise EmbeddedError(f"User {account.name} cannot enter {closed}. {_REMEDY}")
        return
    status = Path("/proc/self/status").read_text()
    permitted = int(status.partition("CapPrm:")[2].split()[0], 16)
    needed = [_CAP_SETGID, _CAP_SETUID]
    if closed is not None:
        needed += [_CAP_DAC_OVERRIDE, _CAP_SETPCAP]
    if all(permitted >> capability & 1 for capability in needed):
        return
    obstacle = "" if closed is None else f", who cannot enter {closed}"
    raise EmbeddedError(
        f"PostgreSQL refuses to run as root, and this root may not start it as user "
        f"{account.name}{obstacle}. {_REMEDY}"
    )


class Programs(NamedTuple):
    """PostgreSQL's programs, and whom they run as; `bypass` is the one of `become`."""

    folder: Path
    account: Account | None = None
    bypass: bool = False

    def start(
        self, command: Sequence[str], *, inherited: int, log: int, last_signal: int
    ) -> subprocess.Popen[bytes]:
        """Run a command that gets `last_signal` when this process, without threads, dies."""
        program, *arguments = command
        parent = os.getpid()
        try:
            return subprocess.Popen(  # noqa: S603 - PostgreSQL's own programs
                [str(self.folder / program), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(inherited,),
                preexec_fn=lambda: become(
                    self.account, bypass=self.bypass, parent=parent, last_signal=last_signal
                ),
            )
        except (OSError, subprocess.SubprocessError) as error:
            name = self.account.name or str(self.account.uid) if self.account else "this user"
            raise EmbeddedError(
                f"Cannot run {self.folder / program} as {name}: {error}. {_REMEDY}"
            ) from error

    def output(self, program: str, argument: str) -> str:
        """What a program that only informs says; it runs as ourselves."""
        try:
            return subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                [str(self.folder / program), argument],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedError(f"{self.folder} holds no usable PostgreSQL: {error}.") from error


# What the log of a server that did not start contains, and what to do about it.
_REMEDIES = (
    ('segment "/PostgreSQL.', "Give the machine more shared memory (/dev/shm)."),
    ("could not resize shared memory", "Give the machine more shared memory (/dev/shm)."),
    ("No space left on device", "Free some space on the disk and start again."),
    ("could not map anonymous shared memory", "Free some memory and start again."),
    ("Permission denied", "Give the directory and all in it back to one user, and start again."),
    ("Read-only file system", "Make the disk writable and start again."),
    ("pre-existing shared memory", "Stop the PostgreSQL that still uses the directory."),
    ("could not create any TCP/IP sockets", "Free the port, or remove the file `port` there."),
    ("unrecognized configuration parameter", "Correct the options."),
    ("invalid value for parameter", "Correct the options."),
    (
        "could not look up effective user ID",
        "Give this user a name in /etc/passwd, or set SYNCLINE_DATABASE_URL to a PostgreSQL of "
        "your own.",
    ),
)
_READ_LOG = "Read the log; SYNCLINE_DATABASE_URL can name a PostgreSQL of your own meanwhile."
_LOG_LINES = 12  # in an error


def remedy(text: str) -> str:
    """What to do when a program of ours says this."""
    return next((remedy for known, remedy in _REMEDIES if known in text), _READ_LOG)


def explain(log: Path, start: int, what: str) -> EmbeddedError:
    """The error for a program that failed after it wrote to the log from byte `start` on."""
    lines = _tail(log, start)
    return EmbeddedError(
        f"The embedded PostgreSQL {what}. {remedy(lines)} Its log, {log}, ends:\n{lines}"
    )


def _tail(log: Path, start: int) -> str:
    """The last lines that the log received after byte `start`."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_LOG_LINES:])


def serves(pid: int, data: Path) -> bool:
    """Whether the process is a postmaster on `data`; it would have that as its directory."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except FileNotFoundError:
        return False
    except PermissionError:
        # Another user's, and root has not all of its rights, as in many containers.
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return os.fsencode(data) in command


def adopt_orphans() -> None:
    """Processes whose parent dies below this process become its children (Linux only)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_orphans() -> None:
    """Kill all children: as long as we do not wait for them, their ids are certain."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if children.exists():
        for pid in map(int, children.read_text().split()):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become(account: Account | None, *, bypass: bool, parent: int, last_signal: int) -> None:
    """Between fork and exec: be the account, and get `last_signal` when the parent dies.

    With `bypass` the process keeps one of root's capabilities, to pass folders that are closed
    to the account: PostgreSQL only looks at the user id.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if account is not None:
        if bypass:
            # Without this bit access(2), which PostgreSQL asks about its binaries, would
            # disregard the capability.
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        if account.name:
            os.initgroups(account.name, account.gid)
        else:
            os.setgroups([])
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        if bypass:
            _keep_only(_CAP_DAC_OVERRIDE)
    # Last, because a change of user clears it.
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, last_signal)
    if os.getppid() != parent:
        os._exit(1)


def _keep_only(capability: int) -> None:
    bit = 1 << capability
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)(_CapabilityData(bit, bit, bit), _CapabilityData(0, 0, 0))
    _check(_libc.capset(ctypes.byref(header), data))
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    padded = (*arguments, 0, 0, 0, 0)[:4]
    _check(_libc.prctl(option, *map(ctypes.c_ulong, padded)))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
