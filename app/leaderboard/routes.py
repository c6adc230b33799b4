"""Leaderboards over HTTP."""

from typing import Any

import msgspec
from litestar import Request, Response, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.answer import JSON
from app.auth.types import Principal
from app.errors import Code
from app.leaderboard.leaderboard import Leaderboard
from app.leaderboard.types import BoardAnswer, BoardQuery, RebuildAnswer
from app.openapi import Description
from app.requests import decode_query

_encode = msgspec.json.Encoder().encode


@route(
    "/v1/leaderboards/{board:str}",
    http_method=["GET", "HEAD"],
    opt=Description(
        "The best of a board, or the entries around the caller",
        query=BoardQuery,
        answers={200: BoardAnswer},
        problems=(Code.INVALID_REQUEST, Code.BOARD_NOT_FOUND, Code.DATABASE_UNAVAILABLE),
    ).opt(),
)
async def read_board(
    request: Request[Principal, Any, Any],
    board: FromPath[str],
    leaderboard: NamedDependency[Leaderboard],
) -> Response[bytes]:
    query = decode_query(request.query_params, BoardQuery)
    answer = await leaderboard.read(request.user.account, board, query)
    return Response(_encode(answer), status_code=200, media_type=JSON)


@post(
    "/v1/admin/leaderboards/rebuild",
    status_code=200,
    opt=Description(
        "Count every board anew, and build anew those in Redis",
        answers={200: RebuildAnswer},
        problems=(Code.DATABASE_UNAVAILABLE,),
    ).opt(),
)
async def rebuild(leaderboard: NamedDependency[Leaderboard]) -> Response[bytes]:
    return Response(_encode(await leaderboard.rebuild()), status_code=200, media_type=JSON)


ROUTES = [read_board, rebuild]
