"""Places of the workers of one machine: each account is at home at one of them."""

import fcntl
import os
from pathlib import Path
from zlib import crc32


def home_of(account: str, places: int) -> int:
    """The place of the account among so many; the same in every process."""
    return crc32(account.encode()) % places


def socket_path(folder: Path, place: int) -> Path:
    """Where the worker that has the place listens."""
    return folder / f"{place}.socket"


class Place:
    """A place that this process has for as long as it lives, or until it gives it up.

    It is held by a lock on a file, which the kernel frees however the process ends.
    """

    def __init__(self, number: int, lock: int) -> None:
        self.number = number
        self._lock = lock

    def give_up(self) -> None:
        os.close(self._lock)


def take_place(folder: Path, places: int) -> Place | None:
    """The first free one; None if all are taken."""
    for number in range(places):
        lock = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return Place(number, lock)
    return None
