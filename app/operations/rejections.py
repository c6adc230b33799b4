"""What was refused, counted: for operators, who would else hear of it from their users.

Counts wait in memory and are written in batches, so that a refusal costs no statement. A crash
loses the last seconds of them, and a write whose end is unknown may count twice.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from app.clock import Clock
from app.errors import SynclineError

MOST_WAITING = 5_000
"""Of account, key and code; beyond it nothing new is counted until they are written."""
MOST_OF_ACCOUNT = 50
"""Of those, keys of one account that wait by themselves; the others are counted together."""
OTHER_KEYS = "*"
"""Stands for keys that no document can have, and for those past what one account may fill."""

_KEY = re.compile(r"(events/)?[A-Za-z0-9._:~-]{1,128}")


class Rejection(NamedTuple):
    """How often an account was refused one thing; `key` is a document's, or `events/TYPE`."""

    account: str
    key: str
    code: str
    times: int
    last_at_ms: int


class Rejections:
    """Counts that wait to be written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[tuple[str, str, str], Rejection] = {}
        self._keys_of: dict[str, int] = {}
        self.lost = 0
        """Refusals that were not counted, since too much waited."""

    def note(self, account: str, key: str, problem: SynclineError) -> None:
        """Counts a refusal; never waits and never raises."""
        if not _KEY.fullmatch(key):
            key = OTHER_KEYS
        self._add(Rejection(account, key, str(problem.code), 1, self._clock()))

    def take(self) -> list[Rejection]:
        """What waits, which does so no longer; in the order in which it has to be locked."""
        taken = sorted(self._waiting.values())
        self._waiting.clear()
        self._keys_of.clear()
        return taken

    def give_back(self, taken: Iterable[Rejection]) -> None:
        """Lets wait again what could not be written."""
        for one in taken:
            self._add(one)

    def _add(self, new: Rejection) -> None:
        known = self._waiting.get(new[:3])
        if known is None and self._keys_of.get(new.account, 0) >= MOST_OF_ACCOUNT:
            new = new._replace(key=OTHER_KEYS)
            known = self._waiting.get(new[:3])
        if known is None:
            if len(self._waiting) >= MOST_WAITING:
                self.lost += new.times
                return
            if new.key != OTHER_KEYS:
                self._keys_of[new.account] = self._keys_of.get(new.account, 0) + 1
            self._waiting[new[:3]] = new
            return
        self._waiting[new[:3]] = known._replace(
            times=known.times + new.times, last_at_ms=max(known.last_at_ms, new.last_at_ms)
        )
