"""Events over HTTP: decode, call, answer."""

from typing import Any

import msgspec
from litestar import Request, Response, post, route
from litestar.di import NamedDependency

from app.answer import JSON
from app.auth.types import Principal
from app.errors import Code
from app.ledger.ledger import Ledger
from app.ledger.types import Audit, EventBody, EventsAnswer, EventsRequest
from app.openapi import Description
from app.requests import NoQuery, decode_body, decode_query, read_body

_encode = msgspec.json.Encoder().encode

Asking = Request[Principal, Any, Any]


EVENT_PROBLEMS = (
    Code.UNKNOWN_EVENT_TYPE,
    Code.INVALID_EVENT,
    Code.AMOUNT_OVER_CAP,
    Code.TOTAL_BELOW_MINIMUM,
    Code.UNKNOWN_LEVEL,
    Code.PROJECTION_FAILED,
    Code.ID_REUSED,
)


@post(
    "/v1/events",
    status_code=200,
    opt=Description(
        "Record events, each once",
        body=EventsRequest,
        parts=(EventBody,),
        query=NoQuery,
        answers={200: EventsAnswer},
        item_problems=EVENT_PROBLEMS,
        problems=(
            Code.MALFORMED_JSON,
            Code.INVALID_REQUEST,
            Code.INVALID_VALUE,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_ENCODING,
            Code.OVERLOADED,
            Code.DATABASE_UNAVAILABLE,
            Code.SHUTTING_DOWN,
        ),
    ).opt(),
)
async def record_events(request: Asking, ledger: NamedDependency[Ledger]) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    text, account = await read_body(request), request.user.account
    async with ledger.gate.passing(account, len(text)):
        body = decode_body(text, EventsRequest)
        events = await ledger.read(body.events, body.device, body.sent_at)
        results = await ledger.record(account, events)
    return Response(_encode(EventsAnswer(results)), status_code=200, media_type=JSON)


@route(
    "/v1/ledger/audit",
    http_method=["GET", "HEAD"],
    opt=Description(
        "Prove that the totals are the sums of the events",
        query=NoQuery,
        answers={200: Audit},
        problems=(Code.INVALID_REQUEST, Code.OVERLOADED, Code.DATABASE_UNAVAILABLE),
    ).opt(),
)
async def audit(request: Asking, ledger: NamedDependency[Ledger]) -> Response[bytes]:
    decode_query(request.query_params, NoQuery)
    answer = await ledger.audit(request.user.account)
    return Response(_encode(answer), status_code=200, media_type=JSON)


ROUTES = [record_events, audit]
