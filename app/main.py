"""The composition root: the one place where everything is wired together."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from app import openapi, problems
from app.addresses import Addresses
from app.auth.keys import HttpFetch
from app.auth.middleware import Authentication
from app.auth.secret import admin_token, hs256_secret
from app.auth.tokens import Verifier
from app.clock import Clock, system_clock
from app.database import migrate
from app.database.engine import Database
from app.database.era import Era
from app.database.roles import NotGranted, act_as_service
from app.database.trouble import describe
from app.documents import housekeeping
from app.documents import routes as document_routes
from app.documents import store as document_store
from app.documents.documents import DocumentReader, Documents
from app.documents.model import Limits
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline, PipelineSettings
from app.documents.reader import Answer, Ask, Question, Reader
from app.documents.rules import load_registry, remember_rules
from app.errors import SynclineError
from app.failures import failure
from app.hot_routes import HotRoutes, write_answer
from app.leaderboard import routes as leaderboard_routes
from app.leaderboard.keeper import Keeper
from app.leaderboard.leaderboard import Leaderboard
from app.leaderboard.redis_boards import RedisBoards
from app.ledger import routes as ledger_routes
from app.ledger.intake import EventIntake
from app.ledger.ledger import Ledger
from app.ledger.loading import load_event_types
from app.live import asyncapi
from app.live.service import Live
from app.logs import log_to_stderr
from app.metering import Traffic
from app.methods import Methods
from app.neighbours.neighbours import Neighbours
from app.neighbours.serving import Write
from app.operations import admin_routes, live_reference
from app.operations import routes as operation_routes
from app.operations.metrics import Metrics, Sources
from app.operations.recorder import Recorder
from app.operations.reference import page
from app.operations.routes import Operations
from app.operations.stats import Statistics
from app.progress import routes as progress_routes
from app.progress.dashboard import Dashboards
from app.progress.levels import Levels
from app.settings import Settings, load_settings, variable
from app.socket_io.bridge import Bridge
from app.socket_io.engine import Engine, EngineLimits, is_installed
from app.sync import routes as sync_routes
from app.sync import store as sync_store
from app.sync.exchange import Exchange, Puller, SyncLimits
from merge_rules.registry import Registry

LANES = 2
"""Batches of writes at once, unless that is set: one is decided while the other commits."""
LANES_OF_SEVERAL = 1
"""The same where a machine has several processes: another decides meanwhile, and the fewer batches
share what comes, the larger they are."""
READ_BATCH = 64
"""Documents in one statement: so many of the largest still fit into memory."""
PULL_BATCH = 16
"""Pulls in one statement."""
MEETING = "_SYNCLINE_MEETING"
"""The variable by which workers are told in which folder they meet; it is no setting."""


ROUTES: list[ControllerRouterHandler] = [
    *document_routes.ROUTES,
    *sync_routes.ROUTES,
    *leaderboard_routes.ROUTES,
    *ledger_routes.ROUTES,
    *progress_routes.ROUTES,
    *operation_routes.ROUTES,
    *admin_routes.ROUTES,
]


OUTDATED = "the database is not up to date: run `syncline migrate`"


class StartError(Exception):
    """The service cannot start; the text says what to do."""


@dataclass
class Parts:
    """Everything that the service is made of, wired; nothing of it runs yet."""

    settings: Settings
    clock: Clock
    registry: Registry
    database: Database
    pipeline: Pipeline
    reader: DocumentReader
    puller: Puller
    recorder: Recorder
    documents: Documents
    ledger: Ledger
    exchange: Exchange
    write: Write
    neighbours: Neighbours | None
    live: Live
    cache: RedisBoards | None
    keeper: Keeper
    leaderboard: Leaderboard
    traffic: Traffic
    operations: Operations
    fetch_keys: HttpFetch
    verifier: Verifier
    socket_io: Engine | None


def wire(settings: Settings, clock: Clock, meeting: Path | None = None) -> Parts:
    """All parts, each given what it needs. Raises StartError, SettingsError or RegistryError.

    `meeting` is the folder in which the workers of this machine meet, if there are several.
    """
    assert settings.database_url is not None, "the launcher names the embedded database"
    registry, era = load_registry(settings), Era(clock)
    database = _database(settings, settings.database_url, era)
    pipeline = Pipeline(database, registry, clock, pipeline_settings(settings))
    reader: DocumentReader = _reader(settings, database, document_store.read_each, READ_BATCH)
    puller: Puller = _reader(settings, database, sync_store.read_changes, PULL_BATCH)
    recorder = Recorder(database, clock, settings.rejection_days)
    intake = Intake(
        settings.max_document_keys, settings.max_operations, settings.max_document_bytes
    )
    documents = Documents(
        database,
        pipeline,
        reader,
        registry,
        intake,
        clock,
        settings.history,
        recorder.rejections.note,
    )
    event_intake = EventIntake(
        load_event_types(settings), settings.max_event_bytes, settings.event_days
    )
    ledger = Ledger(database, documents, event_intake, clock, settings.max_events)

    def exchange_of(answer_bytes: int) -> Exchange:
        limits = SyncLimits(settings.max_mutations, settings.max_changes, answer_bytes)
        note = recorder.devices.note
        return Exchange(database, documents, ledger, puller, era, limits, note)

    exchange = exchange_of(settings.max_answer_bytes)
    write: Write = partial(write_answer, documents, exchange)
    neighbours = None if meeting is None else Neighbours(meeting, settings.workers, write)
    live = Live(database, exchange_of(settings.live_answer_bytes), clock, settings)
    pipeline.listen(live.relay.note)
    cache = None if settings.redis_url is None else RedisBoards(settings.redis_url)
    keeper = Keeper(database, clock, cache, kept_weeks=settings.board_weeks)
    pipeline.listen(keeper.note)
    traffic, started_ms, present = Traffic(), clock(), version("syncline")
    sources = Sources(traffic, database, pipeline, reader, puller, live, neighbours)
    metrics = Metrics(sources, clock, started_ms, present, workers=settings.workers)
    operations = Operations(database, clock, present, started_ms, live.hub, metrics)
    fetch_keys = HttpFetch()
    verifier = Verifier(settings, hs256_secret(settings), clock, fetch_keys)
    return Parts(
        settings=settings,
        clock=clock,
        registry=registry,
        database=database,
        pipeline=pipeline,
        reader=reader,
        puller=puller,
        recorder=recorder,
        documents=documents,
        ledger=ledger,
        exchange=exchange,
        write=write if neighbours is None else neighbours.write,
        neighbours=neighbours,
        live=live,
        cache=cache,
        keeper=keeper,
        leaderboard=Leaderboard(database, clock, keeper, cache, kept_weeks=settings.board_weeks),
        traffic=traffic,
        operations=operations,
        fetch_keys=fetch_keys,
        verifier=verifier,
        socket_io=_socket_io(settings, live, documents, verifier, clock, operations),
    )


@asynccontextmanager
async def running(parts: Parts) -> AsyncIterator[None]:
    """The parts at work; they end in an order in which what is asked is still answered."""
    database, clock, socket_io = parts.database, parts.clock, parts.socket_io
    await check_database(database)
    await remember_rules(database, parts.registry, clock)
    parts.pipeline.start()
    parts.reader.start()
    parts.puller.start()
    await parts.leaderboard.start()
    parts.recorder.start()
    await parts.live.start()
    if socket_io is not None:
        socket_io.start()
    if parts.neighbours is not None:
        parts.neighbours.start()
    background = [
        asyncio.create_task(parts.keeper.run()),
        asyncio.create_task(
            housekeeping.run(
                database,
                parts.documents,
                clock,
                mutation_days=parts.settings.mutation_days,
                fold_days=parts.settings.fold_days,
            )
        ),
    ]
    try:
        yield
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if socket_io is not None:
            await socket_io.stop()
        if parts.neighbours is not None:
            await parts.neighbours.stop()  # before the others are told of the last commits
        await parts.live.stop()
        await parts.pipeline.stop()
        await parts.reader.stop()
        await parts.puller.stop()
        if parts.cache is not None:
            await parts.cache.aclose()
        await parts.recorder.stop()
        await parts.verifier.aclose()
        await parts.fetch_keys.aclose()
        await database.close()


def create_app(
    settings: Settings, clock: Clock = system_clock, meeting: Path | None = None
) -> Litestar:
    """The service over the database that `settings.database_url` names; `meeting` as in `wire`."""
    parts = wire(settings, clock, meeting)
    database, operations, socket_io = parts.database, parts.operations, parts.socket_io
    app = Litestar(
        route_handlers=ROUTES,
        middleware=[
            Addresses(),
            Methods(),
            Authentication(parts.verifier, admin_token(settings).text),
        ],
        dependencies={
            "documents": _provide(parts.documents),
            "exchange": _provide(parts.exchange),
            "leaderboard": _provide(parts.leaderboard),
            "ledger": _provide(parts.ledger),
            "dashboards": _provide(Dashboards(database, clock)),
            "levels": _provide(Levels(database, clock, settings.max_levels)),
            "operations": _provide(operations),
            "statistics": _provide(Statistics(database, clock, settings.history)),
        },
        exception_handlers={Exception: answer_error},
        lifespan=[lambda _: running(parts)],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=settings.max_body_bytes,
    )
    app.asgi_handler = HotRoutes(
        app.asgi_handler,
        parts.verifier,
        parts.documents,
        parts.write,
        parts.traffic,
        max_body_bytes=settings.max_body_bytes,
    )
    app.asgi_handler = parts.live.endpoint(app.asgi_handler, parts.verifier)
    if socket_io is not None:
        app.asgi_handler = socket_io.mounted(app.asgi_handler)
    operations.openapi = openapi.build(app.routes)
    operations.reference = page(operations.openapi)
    operations.asyncapi = asyncapi.build()
    operations.live_reference = live_reference.page(operations.asyncapi)
    app.state.operations, app.state.leaderboard = operations, parts.leaderboard
    app.state.live, app.state.socket_io = parts.live, socket_io
    return app


def _database(settings: Settings, url: str, era: Era) -> Database:
    async def set_up(connection: Any) -> None:
        await era.look(connection)
        await act_as_service(connection)

    return Database(
        url,
        pool_size=settings.pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
        on_connect=set_up,
    )


def _reader(
    settings: Settings, database: Database, ask: Ask[Question, Answer], batch_limit: int
) -> Reader[Question, Answer]:
    return Reader(
        database,
        ask,
        lanes=settings.read_lanes,
        batch_limit=batch_limit,
        queue_limit=settings.queue_limit,
    )


def _socket_io(
    settings: Settings,
    live: Live,
    documents: Documents,
    verifier: Verifier,
    clock: Clock,
    operations: Operations,
) -> Engine | None:
    """What serves clients of Socket.IO, where the setting asks for it."""
    if not settings.socketio:
        return None
    if not is_installed():
        raise StartError(
            f"{variable('socketio')} needs what is not installed: pip install 'syncline[socketio]'"
        )
    limits = EngineLimits(
        sockets=settings.live_sockets,
        frame_bytes=settings.live_frame_bytes,
        hello_s=settings.live_hello_s,
        send_s=settings.live_send_s,
        ping_s=settings.live_ping_s,
        ping_timeout_s=settings.live_ping_timeout_s,
        frames_per_s=settings.live_frames_per_s,
    )
    # Clients that poll come to any worker, and only one knows them.
    polling = settings.workers == 1
    engine = Engine(limits, polling=polling, stopping=lambda: operations.draining)
    trust_ms = int(settings.live_trust_s * 1000)
    Bridge(engine, live.hub, documents, verifier, clock, trust_ms=trust_ms)
    return engine


def from_environment() -> Litestar:
    """The app of one worker process, which starts with nothing but its environment."""
    log_to_stderr()
    return create_app(load_settings(), meeting=Path(os.environ[MEETING]))


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Every failure as a problem document."""
    status, headers, body = failure(error, request.method, request.url.path)
    return Response(body, status_code=status, headers=headers, media_type=problems.MEDIA_TYPE)


async def check_database(database: Database) -> None:
    try:
        async with database.connection() as connection:
            present = await migrate.present_revision(connection)
    except SynclineError as error:
        if isinstance(error.__cause__, NotGranted):
            raise StartError(OUTDATED) from error
        raise StartError(f"the database cannot be used: {describe(error)}") from error
    if present != migrate.newest_revision():
        raise StartError(OUTDATED)


def pipeline_settings(settings: Settings) -> PipelineSettings:
    return PipelineSettings(
        lanes=settings.write_lanes or (LANES if settings.workers == 1 else LANES_OF_SEVERAL),
        queue_limit=settings.queue_limit,
        batch_limit=settings.batch_limit,
        history=settings.history,
        max_documents=settings.max_documents,
        limits=Limits(settings.max_document_bytes, settings.max_document_keys),
        cache_bytes=settings.cache_bytes,
    )


def _provide(service: Any) -> Provide:
    return Provide(lambda: service, sync_to_thread=False, use_cache=True)
