"""Where the copy of each device stands, by what it said last, and how much waits on it.

Notes wait in memory: a device that syncs every second is written once a minute, after its
answer, and a crash loses no more than that.
"""

from collections.abc import Iterable
from typing import NamedTuple

from app.clock import Clock

WRITTEN_EVERY_MS = 60_000
"""A device that does not change much is written once in this time."""
MOST_WAITING = 10_000
"""Devices; of others nothing is noted until these are written."""
MUCH = 10
"""Mutations by which more or fewer have to wait, and half as many again, to be written sooner."""


class DeviceNote(NamedTuple):
    """What a device said with its last sync, and when."""

    account: str
    device: str
    cursor_seq: int
    """The sequence up to which it has seen changes; 0: none yet."""
    pending: int | None
    """Mutations that wait on it; None if it did not say."""
    at_ms: int


class DeviceNotes:
    """Notes that wait to be written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[tuple[str, str], DeviceNote] = {}
        self._written: dict[tuple[str, str], DeviceNote] = {}
        """The last of each device, for as long as the next one has to wait for it."""

    def note(self, account: str, device: str, cursor_seq: int, pending: int | None) -> None:
        """Takes note; never waits and never raises."""
        id = account, device
        if id in self._waiting or len(self._waiting) < MOST_WAITING:
            self._waiting[id] = DeviceNote(account, device, cursor_seq, pending, self._clock())

    def take(self) -> list[DeviceNote]:
        """The notes that are due, which do not wait any longer, by account and device."""
        now_ms = self._clock()
        self._written = {
            id: note
            for id, note in self._written.items()
            if 0 <= now_ms - note.at_ms < WRITTEN_EVERY_MS
        }
        due = [note for id, note in self._waiting.items() if is_due(note, self._written.get(id))]
        for note in due:
            self._written[note[:2]] = self._waiting.pop(note[:2])
        return sorted(due, key=lambda note: note[:2])

    def take_all(self) -> list[DeviceNote]:
        """All notes, at the end of the process."""
        self._written.clear()
        return self.take()

    def give_back(self, taken: Iterable[DeviceNote]) -> None:
        """Lets wait again what could not be written, unless the device has said more since."""
        for note in taken:
            self._written.pop(note[:2], None)
            if len(self._waiting) < MOST_WAITING:
                self._waiting.setdefault(note[:2], note)


def is_due(note: DeviceNote, written: DeviceNote | None) -> bool:
    """Whether a note is worth a write, after one that was written within the last minute."""
    if written is None:
        return True
    before, now = written.pending or 0, note.pending or 0
    return abs(now - before) > max(MUCH, before / 2)
