"""The catalogue of levels: published as a whole, by version, read by every process."""

from collections.abc import Callable, Sequence

from app.clock import Clock
from app.database.engine import Database
from app.errors import Code, SynclineError
from app.progress import store
from app.progress.types import Catalogue, LevelEntry, Published, PublishLevels

KEPT_CATALOGUES = 32
"""Versions that stay in the tables, so that an operator can see what was changed."""
TRIES = 10
"""How often a publisher who named no version begins anew, since another was faster."""

Precondition = Callable[[Catalogue], bool]
"""Whether a catalogue may be replaced."""


class Levels:
    """The catalogue of one deployment."""

    def __init__(self, database: Database, clock: Clock, max_levels: int) -> None:
        self._database = database
        self._clock = clock
        self._max_levels = max_levels
        self._newest = Catalogue(0, None, [])
        """As it was last read; it counts only as long as it still is the newest."""

    async def catalogue(self) -> Catalogue:
        """The newest catalogue. What is in memory serves while no other was published."""
        newest = self._newest
        if await self._database.read(store.read_newest) != (newest.version, newest.published_at):
            newest = self._newest = await self._database.read(store.read_catalogue)
        return newest

    async def publish(
        self, body: PublishLevels, may_replace: Precondition = lambda _: True
    ) -> Published:
        """Makes these the levels from now on; the same ones again change nothing, so that a
        retry is no new version.

        Raises INVALID_REQUEST, or PRECONDITION_FAILED where another catalogue was published than
        the publisher saw.
        """
        wanted = self._checked(body.levels)
        for _ in range(TRIES):
            async with self._database.connection() as connection, connection.transaction():
                present = await store.read_catalogue(connection)
                if present.published_at is not None and present.levels == wanted:
                    return Published(present.version, present.published_at)
                seen = present.version if body.version is None else body.version
                if seen != present.version or not may_replace(present):
                    raise _changed_meanwhile(present.version)
                version, now_ms = present.version + 1, self._clock()
                if await store.add_catalogue(connection, version, now_ms, wanted, KEPT_CATALOGUES):
                    return Published(version, now_ms)
        raise SynclineError(Code.OVERLOADED, "Others publish just now; send it again.")

    def _checked(self, levels: Sequence[LevelEntry]) -> list[LevelEntry]:
        """The levels by name; raises INVALID_REQUEST for too many, or for one that stands twice."""
        if len(levels) > self._max_levels:
            raise SynclineError(
                Code.INVALID_REQUEST,
                f"A catalogue may have {self._max_levels} levels.",
                path="$.levels",
                limit=self._max_levels,
            )
        names = set()
        for index, entry in enumerate(levels):
            if entry.level in names:
                raise SynclineError(
                    Code.INVALID_REQUEST,
                    f"The level {entry.level!r} stands twice.",
                    path=f"$.levels[{index}].level",
                )
            names.add(entry.level)
        return sorted(levels, key=lambda entry: entry.level)


def _changed_meanwhile(version: int) -> SynclineError:
    detail = "Another catalogue was published since: read it, and publish again on its version."
    return SynclineError(Code.PRECONDITION_FAILED, detail, version=version)
