"""The composition root: the one place where everything is wired together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException

from app import openapi, problems
from app.auth.keys import HttpFetch
from app.auth.middleware import Authentication
from app.auth.secret import hs256_secret
from app.auth.tokens import Verifier
from app.clock import Clock, system_clock
from app.database import migrate
from app.database.engine import Database, unavailable
from app.database.era import Era
from app.database.retry import is_database_trouble
from app.database.trouble import describe
from app.documents import housekeeping
from app.documents import routes as document_routes
from app.documents.documents import Documents
from app.documents.model import Limits
from app.documents.mutations import Intake
from app.documents.pipeline import Pipeline, PipelineSettings
from app.documents.rules import load_registry, remember_rules
from app.errors import Code, SynclineError
from app.logs import log_to_stderr
from app.methods import Methods
from app.operations import routes as operation_routes
from app.operations.reference import page
from app.operations.routes import Operations
from app.settings import Settings, load_settings
from app.sync import routes as sync_routes
from app.sync.exchange import Exchange, SyncLimits

log = structlog.get_logger()


class StartError(Exception):
    """The service cannot start; the text says what to do."""


def create_app(settings: Settings, clock: Clock = system_clock) -> Litestar:
    """The service over the database that `settings.database_url` names."""
    assert settings.database_url is not None, "the launcher names the embedded database"
    registry = load_registry(settings)
    era = Era(clock)
    database = Database(
        settings.database_url,
        pool_size=settings.pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
        on_connect=era.look,
    )
    pipeline = Pipeline(database, registry, clock, _pipeline_settings(settings))
    intake = Intake(
        settings.max_document_keys, settings.max_operations, settings.max_document_bytes
    )
    documents = Documents(database, pipeline, registry, intake, clock, settings.history)
    limits = SyncLimits(settings.max_mutations, settings.max_changes, settings.max_answer_bytes)
    exchange = Exchange(database, documents, era, limits)
    operations = Operations(database, clock, version("syncline"), clock())
    fetch_keys = HttpFetch()
    verifier = Verifier(settings, hs256_secret(settings), clock, fetch_keys)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await _check_database(database)
        await remember_rules(database, registry, clock)
        pipeline.start()
        housework = asyncio.create_task(
            housekeeping.run(
                database,
                documents,
                clock,
                mutation_days=settings.mutation_days,
                fold_days=settings.fold_days,
            )
        )
        try:
            yield
        finally:
            housework.cancel()
            with suppress(asyncio.CancelledError):
                await housework
            await pipeline.stop()
            await verifier.aclose()
            await fetch_keys.aclose()
            await database.close()

    app = Litestar(
        route_handlers=[
            *document_routes.ROUTES,
            *sync_routes.ROUTES,
            *operation_routes.ROUTES,
        ],
        middleware=[Methods(), Authentication(verifier)],
        dependencies={
            "documents": _provide(documents),
            "exchange": _provide(exchange),
            "operations": _provide(operations),
        },
        exception_handlers={Exception: answer_error},
        lifespan=[lifespan],
        openapi_config=None,
        logging_config=None,
        request_max_body_size=settings.max_body_bytes,
    )
    operations.openapi = openapi.build(app.routes)
    operations.reference = page(operations.openapi)
    app.state.operations = operations
    return app


def from_environment() -> Litestar:
    """The app of one worker process, which starts with nothing but its environment."""
    log_to_stderr()
    return create_app(load_settings())


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Every failure as a problem document; what nobody expected is logged and says nothing."""
    expected = _expected(error, reads=request.method in ("GET", "HEAD"))
    if expected is None:
        log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
        expected = SynclineError(Code.INTERNAL, "The service's log says why; send it again later.")
    headers = dict(problems.headers(expected))
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    return Response(
        problems.render(expected),
        status_code=problems.STATUS[expected.code],
        headers=headers,
        media_type=problems.MEDIA_TYPE,
    )


def _expected(error: Exception, *, reads: bool) -> SynclineError | None:
    if isinstance(error, SynclineError):
        if error.code is Code.DATABASE_UNAVAILABLE:
            return unavailable(reads=reads)
        return error
    if is_database_trouble(error):
        log.warning("database trouble", error=repr(error))
        return unavailable(reads=reads)
    if isinstance(error, HTTPException):
        match error.status_code:
            case 404:
                return SynclineError(Code.NOT_FOUND, "See /docs for the addresses there are.")
            case 405:
                return SynclineError(Code.METHOD_NOT_ALLOWED, "Allow names the methods it takes.")
            case 413:
                return SynclineError(Code.BODY_TOO_LARGE, "Send less in one request.")
            case status if 400 <= status < 500:
                return SynclineError(Code.INVALID_REQUEST, str(error.detail))
    return None


async def _check_database(database: Database) -> None:
    try:
        async with database.connection() as connection:
            present = await migrate.present_revision(connection)
    except SynclineError as error:
        raise StartError(f"the database cannot be used: {describe(error)}") from error
    if present != migrate.newest_revision():
        raise StartError("the database is not up to date: run `syncline migrate`")


def _pipeline_settings(settings: Settings) -> PipelineSettings:
    return PipelineSettings(
        lanes=settings.write_lanes,
        queue_limit=settings.queue_limit,
        batch_limit=settings.batch_limit,
        history=settings.history,
        max_documents=settings.max_documents,
        limits=Limits(settings.max_document_bytes, settings.max_document_keys),
    )


def _provide(service: Any) -> Provide:
    return Provide(lambda: service, sync_to_thread=False, use_cache=True)
