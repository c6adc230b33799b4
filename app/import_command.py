"""`syncline import`: old tables and files into documents and events."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from app.clock import Clock, system_clock
from app.database.engine import Database
from app.database.roles import act_as_service
from app.documents import store as document_store
from app.documents.documents import DocumentReader, Documents
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline
from app.documents.reader import Reader
from app.documents.rules import learn_rules, load_registry, remember_rules
from app.ledger.intake import EventIntake
from app.ledger.ledger import Ledger
from app.ledger.loading import load_event_types
from app.ledger.openings import IMPORTED_FACTS
from app.main import READ_BATCH, check_database, pipeline_settings
from app.operations.importing import tally
from app.operations.importing.files import SUFFIXES, FileSource
from app.operations.importing.importer import IN_FLIGHT, Importer
from app.operations.importing.keeper import DatabaseKeeper, NoKeeper
from app.operations.importing.mapping import Mapping, MappingError
from app.operations.importing.rejects import Rejects
from app.operations.importing.report import report
from app.operations.importing.source import Source, SourceError
from app.operations.importing.table_store import TableSource
from app.operations.importing.translate import Translator
from app.operations.importing.writers import Trial, Write
from app.settings import Settings
from merge_rules.registry import Registry

QUEUE_LIMIT = 2 * IN_FLIGHT


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator asked for."""

    mapping: Mapping
    places: Sequence[str]
    """URLs and files to read, one after the other."""
    table: str | None
    rejects: Path
    dry_run: bool
    afresh: bool


async def run_import(
    settings: Settings, url: str, order: Order, out: Console, clock: Clock = system_clock
) -> bool:
    """Imports every place; whether nothing was rejected.

    Raises SourceError, MappingError, RegistryError, StartError, SynclineError.
    """
    complete = True
    reports = _reports(order)
    async with _workshop(settings, url, order, clock) as workshop:
        for place, path in zip(order.places, reports, strict=True):
            source = workshop.source(place)
            done = await workshop.bring_in(source, path, out)
            report(done, order.mapping, source.name, path, out, dry_run=order.dry_run)
            complete = complete and not done.rejections
    return complete


def _reports(order: Order) -> list[Path]:
    """The file for the rejected rows of each place. It is written afresh, so none of them may be
    one that is read: raises SourceError."""
    first = order.rejects
    others = range(2, len(order.places) + 1)
    paths = [first, *(first.with_stem(f"{first.stem}-{number}") for number in others)]
    read = {Path(place).expanduser().resolve() for place in order.places if "://" not in place}
    for path in paths:
        if path.resolve() in read:
            raise SourceError(f"{path} is read from: name another file with --rejects")
    return paths


@dataclass(frozen=True, slots=True)
class _Workshop:
    """All that an import works with."""

    order: Order
    settings: Settings
    database: Database
    translator: Translator
    writer: Write | Trial
    clock: Clock

    async def bring_in(self, source: Source, rejects_path: Path, out: Console) -> tally.Tally:
        used = self.translator.mapping.used_columns()
        rejects = Rejects(rejects_path, source.name, used)
        name = f"{self.order.mapping.source} from {source.name}"
        keeper = (
            NoKeeper() if self.order.dry_run else DatabaseKeeper(self.database, name, self.clock)
        )
        importer = Importer(self.translator, source, self.writer, keeper, rejects, self.clock)
        try:
            await source.open(sorted(used - set(self.translator.mapping.optional)))
            progress = await importer.start(afresh=self.order.afresh)
            with _bar(source, await source.total(), progress, out) as advance:
                importer.advance = advance
                done = await importer.run(progress)
        finally:
            rejects.close()
            await source.close()
            if isinstance(keeper, DatabaseKeeper):
                await keeper.close()
        return done.tally

    def source(self, place: str) -> Source:
        most = self.settings.max_body_bytes
        if "://" in place:
            table = self.order.table or self.order.mapping.table
            if table is None:
                raise SourceError("the mapping names no `table`; name one with --table")
            return TableSource(place, table, self.order.mapping.key, most)
        path = Path(place).expanduser().absolute()
        if path.suffix not in SUFFIXES:
            kinds = ", ".join(sorted(SUFFIXES))
            raise SourceError(f"{place} is neither a postgresql:// URL nor a file of {kinds}")
        return FileSource(path, most)


@asynccontextmanager
async def _workshop(
    settings: Settings, url: str, order: Order, clock: Clock
) -> AsyncIterator[_Workshop]:
    registry = load_registry(settings)
    events = EventIntake(load_event_types(settings), settings.max_event_bytes, settings.event_days)
    _check_types(order.mapping, events)
    database = Database(
        url,
        pool_size=settings.pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
        on_connect=act_as_service,
    )
    # How much waits is the importer's own affair.
    of_pipeline = replace(pipeline_settings(settings), queue_limit=QUEUE_LIMIT)
    pipeline = Pipeline(database, registry, clock, of_pipeline)
    reader: DocumentReader = Reader(
        database,
        document_store.read_each,
        lanes=settings.read_lanes,
        batch_limit=READ_BATCH,
        queue_limit=QUEUE_LIMIT,
    )
    intake = Intake(
        settings.max_document_keys, settings.max_operations, settings.max_document_bytes
    )
    documents = Documents(database, pipeline, reader, registry, intake, clock, settings.history)
    writer: Write | Trial = Write(documents)
    if order.dry_run:
        ledger = Ledger(database, documents, events, clock, settings.max_events)
        writer = Trial(reader, ledger, registry, of_pipeline.limits, clock)
    translator = Translator(order.mapping, intake, events)
    try:
        await check_database(database)
        await _learn(database, registry, clock, dry_run=order.dry_run)
        pipeline.start()
        reader.start()
        yield _Workshop(order, settings, database, translator, writer, clock)
    finally:
        await pipeline.stop()
        await reader.stop()
        await database.close()


async def _learn(database: Database, registry: Registry, clock: Clock, *, dry_run: bool) -> None:
    if dry_run:
        await learn_rules(database, registry)
    else:
        await remember_rules(database, registry, clock)


def _check_types(mapping: Mapping, events: EventIntake) -> None:
    for event in mapping.events:
        if event.type not in IMPORTED_FACTS and events.types.get(event.type) is None:
            known = ", ".join(sorted({*IMPORTED_FACTS, *events.types.registered()}))
            raise MappingError(f"event {event.type!r}: the types of events here are {known}")


@contextmanager
def _bar(
    source: Source, total: int, begun: tally.Progress, out: Console
) -> Iterator[Callable[[tally.Progress], None]]:
    """A bar on a terminal, and nothing elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rejected]:,} rejected"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        name = Path(source.name).name
        task = progress.add_task(name, total=total, rows=0, rejected=0)

        def advance(reached: tally.Progress) -> None:
            progress.update(
                task,
                completed=reached.size,
                rows=reached.tally.rows,
                rejected=reached.tally.rejections,
            )

        advance(begun)
        yield advance
