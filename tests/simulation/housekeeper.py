"""The part of one more process that folds documents, by the clock of the simulation."""

from unittest.mock import patch

from app.clock import Clock
from app.database.engine import Database
from app.documents import housekeeping, store
from app.documents.documents import DocumentReader, Documents
from app.documents.model import Limits
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline, PipelineSettings
from app.documents.reader import Reader
from app.documents.rules import load_registry, remember_rules
from app.settings import Settings
from tests.simulation.server import HISTORY


class Housekeeper:
    """The loop that starts it must run it too."""

    def __init__(self, database_url: str, clock: Clock, rules: str) -> None:
        self.clock = clock
        self.database = Database(database_url, pool_size=2, statement_timeout_ms=60_000)
        self.registry = load_registry(Settings(rules=rules))
        limits, intake = Limits(256 * 1024, 10_000), Intake(10_000, 100)
        settings = PipelineSettings(1, 1_000, 100, HISTORY, 1_000, limits, cache_bytes=1_000_000)
        self.pipeline = Pipeline(self.database, self.registry, clock, settings)
        reader: DocumentReader = Reader(
            self.database, store.read_each, lanes=1, batch_limit=10, queue_limit=100
        )
        self.documents = Documents(
            self.database, self.pipeline, reader, self.registry, intake, clock, HISTORY
        )

    async def start(self) -> None:
        await remember_rules(self.database, self.registry, self.clock)
        self.pipeline.start()

    async def stop(self) -> None:
        await self.pipeline.stop()
        await self.database.close()

    async def fold(self, before_ms: int) -> None:
        """Housekeeping as it is, but that no document is too small for it."""
        with patch.object(housekeeping, "FOLD_SIDECAR_BYTES", 1):
            await housekeeping.fold(self.database, self.documents, before_ms)
