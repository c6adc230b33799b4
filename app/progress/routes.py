"""Levels and the dashboard over HTTP: decode, call, answer."""

from typing import Any

import msgspec
from litestar import Request, Response, put, route
from litestar.di import NamedDependency

from app.answer import JSON
from app.auth.types import Operator, Principal
from app.errors import Code
from app.openapi import Description, Header
from app.progress.dashboard import Dashboards
from app.progress.levels import Levels
from app.progress.types import Catalogue, Dashboard, DashboardQuery, Published, PublishLevels
from app.requests import (
    NoQuery,
    creates_only,
    decode_body,
    decode_query,
    etag,
    none_match,
    read_body,
    strong_match,
)

_encode = msgspec.json.Encoder().encode

IF_MATCH = Header("If-Match", "Publish only if the catalogue is this one, by its ETag")
IF_NONE_MATCH = Header("If-None-Match", "ETags of catalogues already held")
NONE_YET = Header("If-None-Match", "`*`: publish only if there is no catalogue yet")
ETAG = Header("ETag", "Of the catalogue; another one after a restore, too")


@route(
    "/v1/levels",
    http_method=["GET", "HEAD"],
    opt=Description(
        "The levels, and what finishing each is worth",
        query=NoQuery,
        answers={200: Catalogue, 304: None},
        problems=(Code.INVALID_REQUEST, Code.DATABASE_UNAVAILABLE),
        request_headers=(IF_NONE_MATCH,),
        response_headers=(ETAG,),
    ).opt(),
)
async def read_levels(
    request: Request[Principal, Any, Any], levels: NamedDependency[Levels]
) -> Response[bytes]:
    return await _catalogue(request, levels)


@route(
    "/v1/admin/levels",
    http_method=["GET", "HEAD"],
    opt=Description(
        "The catalogue of levels",
        query=NoQuery,
        answers={200: Catalogue, 304: None},
        problems=(Code.INVALID_REQUEST, Code.DATABASE_UNAVAILABLE),
        request_headers=(IF_NONE_MATCH,),
        response_headers=(ETAG,),
    ).opt(),
)
async def read_levels_as_operator(
    request: Request[Operator, Any, Any], levels: NamedDependency[Levels]
) -> Response[bytes]:
    return await _catalogue(request, levels)


async def _catalogue(request: Request[Any, Any, Any], levels: Levels) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    catalogue = await levels.catalogue()
    tag = tag_of(catalogue.version, catalogue.published_at)
    headers = {"etag": etag(tag)}
    if none_match(request.headers.get("if-none-match"), tag):
        return Response(b"", status_code=304, headers=headers)
    return Response(_encode(catalogue), status_code=200, headers=headers, media_type=JSON)


@put(
    "/v1/admin/levels",
    status_code=200,
    opt=Description(
        "Publish the whole catalogue of levels",
        body=PublishLevels,
        query=NoQuery,
        answers={200: Published},
        problems=(
            Code.MALFORMED_JSON,
            Code.INVALID_REQUEST,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_ENCODING,
            Code.PRECONDITION_FAILED,
            Code.OVERLOADED,
            Code.DATABASE_UNAVAILABLE,
        ),
        request_headers=(IF_MATCH, NONE_YET),
        response_headers=(ETAG,),
    ).opt(),
)
async def publish_levels(
    request: Request[Operator, Any, Any], levels: NamedDependency[Levels]
) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    body = decode_body(await read_body(request), PublishLevels)
    matching = request.headers.get("if-match")
    only_first = creates_only(request.headers.get("if-none-match"))

    def may_replace(present: Catalogue) -> bool:
        if present.published_at is None:
            return matching is None
        tag = tag_of(present.version, present.published_at)
        return not only_first and (matching is None or strong_match(matching, tag))

    published = await levels.publish(body, may_replace)
    headers = {"etag": etag(tag_of(published.version, published.published_at))}
    return Response(_encode(published), status_code=200, headers=headers, media_type=JSON)


def tag_of(version: int, published_at: int | None) -> str:
    """After a restore of the database a version may be made once more, with other levels."""
    return f"{version}-{published_at or 0}"


@route(
    "/v1/dashboard",
    http_method=["GET", "HEAD"],
    opt=Description(
        "Profile, progress by thread, and the last study sessions",
        query=DashboardQuery,
        answers={200: Dashboard},
        problems=(Code.INVALID_REQUEST, Code.DATABASE_UNAVAILABLE),
    ).opt(),
)
async def read_dashboard(
    request: Request[Principal, Any, Any], dashboards: NamedDependency[Dashboards]
) -> Response[bytes]:
    query = decode_query(request.query_params, DashboardQuery)
    dashboard = await dashboards.read(request.user.account, query.today)
    return Response(_encode(dashboard), status_code=200, media_type=JSON)


ROUTES = [read_dashboard, read_levels, read_levels_as_operator, publish_levels]
