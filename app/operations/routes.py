"""What operators and machines ask: is it alive, is it ready, what can it do."""

from dataclasses import dataclass, field
from typing import Literal

import msgspec
from litestar import HttpMethod, Response, route
from litestar.di import NamedDependency

from app.clock import Clock
from app.database import migrate
from app.database.engine import Database
from app.database.retry import is_database_trouble
from app.live.hub import Hub
from app.openapi import Description
from app.operations import metrics as prometheus
from app.operations import store
from app.operations.metrics import Metrics

_encode = msgspec.json.Encoder().encode
READ = (HttpMethod.GET, HttpMethod.HEAD)


class Live(msgspec.Struct):
    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct):
    """`ready`, or why not: `draining`, `database`, `migration`."""

    status: Literal["ready", "draining", "database", "migration"]


class Health(msgspec.Struct):
    """What the service is busy with; `uptime` in seconds. Clients and accounts that are connected
    are those of the process that answers."""

    status: Literal["healthy", "unhealthy"]
    connected_clients: int
    connected_accounts: int
    accounts: int | None
    uptime: float
    version: str


@dataclass
class Operations:
    """The state of this process, as far as operators ask for it."""

    database: Database
    clock: Clock
    version: str
    started_ms: int
    hub: Hub
    metrics: Metrics
    draining: bool = False
    openapi: bytes = b""
    reference: bytes = field(default=b"", repr=False)
    asyncapi: bytes = field(default=b"", repr=False)
    live_reference: bytes = field(default=b"", repr=False)

    async def readiness(self) -> Ready:
        if self.draining:
            return Ready("draining")
        try:
            async with self.database.connection() as connection:
                present = await migrate.present_revision(connection)
        except Exception as error:
            if is_database_trouble(error):
                return Ready("database")
            raise
        return Ready("ready" if present == migrate.newest_revision() else "migration")

    async def health(self) -> Health:
        accounts: int | None = None
        try:
            async with self.database.connection() as connection:
                accounts = await store.count_accounts(connection)
        except Exception as error:
            if not is_database_trouble(error):
                raise
        return Health(
            status="unhealthy" if accounts is None else "healthy",
            connected_clients=self.hub.sockets,
            connected_accounts=self.hub.accounts,
            accounts=accounts,
            uptime=(self.clock() - self.started_ms) / 1000,
            version=self.version,
        )


@route(
    "/livez", http_method=READ, opt=Description("Is the process alive", answers={200: Live}).opt()
)
async def livez() -> Response[bytes]:
    return Response(_encode(Live()), status_code=200, media_type="application/json")


@route(
    "/readyz",
    http_method=READ,
    opt=Description("Can it serve: database, migrations", answers={200: Ready, 503: Ready}).opt(),
)
async def readyz(operations: NamedDependency[Operations]) -> Response[bytes]:
    ready = await operations.readiness()
    status = 200 if ready.status == "ready" else 503
    return Response(_encode(ready), status_code=status, media_type="application/json")


@route(
    "/health",
    http_method=READ,
    opt=Description("What it is busy with", answers={200: Health, 503: Health}).opt(),
)
async def health(operations: NamedDependency[Operations]) -> Response[bytes]:
    report = await operations.health()
    status = 200 if report.status == "healthy" else 503
    return Response(_encode(report), status_code=status, media_type="application/json")


@route(
    "/metrics",
    http_method=READ,
    opt=Description(
        "The numbers of this process, for Prometheus", answers={200: str}, media_type="text/plain"
    ).opt(),
)
async def metrics(operations: NamedDependency[Operations]) -> Response[bytes]:
    text = operations.metrics.text()
    return Response(text, status_code=200, media_type=prometheus.MEDIA_TYPE)


@route(
    "/openapi.json",
    http_method=READ,
    opt=Description("This API, as OpenAPI 3.1", answers={200: dict}).opt(),
)
async def openapi(operations: NamedDependency[Operations]) -> Response[bytes]:
    return Response(operations.openapi, status_code=200, media_type="application/json")


@route(
    "/docs",
    http_method=READ,
    opt=Description("This API, to read", answers={200: str}, media_type="text/html").opt(),
)
async def docs(operations: NamedDependency[Operations]) -> Response[bytes]:
    return Response(operations.reference, status_code=200, media_type="text/html")


@route(
    "/asyncapi.json",
    http_method=READ,
    opt=Description("The live socket, as AsyncAPI 3.0", answers={200: dict}).opt(),
)
async def asyncapi(operations: NamedDependency[Operations]) -> Response[bytes]:
    return Response(operations.asyncapi, status_code=200, media_type="application/json")


@route(
    "/docs/live",
    http_method=READ,
    opt=Description("The live socket, to read", answers={200: str}, media_type="text/html").opt(),
)
async def live_docs(operations: NamedDependency[Operations]) -> Response[bytes]:
    return Response(operations.live_reference, status_code=200, media_type="text/html")


ROUTES = [livez, readyz, health, metrics, openapi, docs, asyncapi, live_docs]
