"""What operators ask over HTTP, with their own token."""

from typing import Any

import msgspec
from litestar import Request, Response, route
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.answer import JSON
from app.auth.types import Operator
from app.errors import Code
from app.openapi import Description
from app.operations.stats import AccountDevices, Statistics, Stats
from app.requests import NoQuery, decode_query

_encode = msgspec.json.Encoder().encode

Asking = Request[Operator, Any, Any]


@route(
    "/v1/admin/stats",
    http_method=["GET", "HEAD"],
    opt=Description(
        "What is stored, what merges, what is refused, and which devices lag",
        query=NoQuery,
        answers={200: Stats},
        problems=(Code.INVALID_REQUEST, Code.DATABASE_UNAVAILABLE),
    ).opt(),
)
async def read_stats(request: Asking, statistics: NamedDependency[Statistics]) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    return Response(_encode(await statistics.read()), status_code=200, media_type=JSON)


@route(
    "/v1/admin/accounts/{account:str}/devices",
    http_method=["GET", "HEAD"],
    opt=Description(
        "The devices of an account: when seen, how far behind, what waits on them",
        query=NoQuery,
        answers={200: AccountDevices},
        problems=(Code.INVALID_REQUEST, Code.DATABASE_UNAVAILABLE),
    ).opt(),
)
async def read_devices(
    account: FromPath[str], request: Asking, statistics: NamedDependency[Statistics]
) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    return Response(_encode(await statistics.devices(account)), status_code=200, media_type=JSON)


ROUTES = [read_stats, read_devices]
