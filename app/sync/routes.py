"""Sync over HTTP."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency

from app.answer import Answer
from app.auth.types import Principal
from app.errors import Code
from app.ledger.types import EventBody
from app.openapi import Description
from app.requests import decode_body, read_body
from app.sync.exchange import Exchange
from app.sync.types import MutationBody, SyncAnswer, SyncRequest

_encode = msgspec.json.Encoder().encode


@post(
    "/v1/sync",
    status_code=200,
    opt=Description(
        "Push mutations and pull changes in one round trip",
        body=SyncRequest,
        parts=(MutationBody, EventBody),
        answers={200: SyncAnswer},
        problems=(
            Code.MALFORMED_JSON,
            Code.INVALID_REQUEST,
            Code.MALFORMED_CURSOR,
            Code.INVALID_VALUE,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_ENCODING,
            Code.DEVICE_FORKED,
            Code.CURSOR_EXPIRED,
            Code.OVERLOADED,
            Code.DATABASE_UNAVAILABLE,
            Code.SHUTTING_DOWN,
        ),
    ).opt(),
)
async def sync(
    request: Request[Principal, Any, Any], exchange: NamedDependency[Exchange]
) -> Response[bytes]:
    text = await read_body(request)
    return (await sync_answer(exchange, request.user.account, text)).response()


async def sync_answer(exchange: Exchange, account: str, text: bytes) -> Answer:
    """Pushes and pulls what the text of a body asks."""
    async with exchange.gate.passing(account, len(text)):
        answer = await exchange.sync(account, decode_body(text, SyncRequest))
        return Answer(200, [], _encode(answer))


ROUTES = [sync]
