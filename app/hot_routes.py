"""The hottest requests, past the router: a document written or read, and a sync, plainly asked.

What a router, a request object and dependency injection do for a request costs more than the
write itself. So a request that needs none of it (a good token, a key as it stands, no query, no
conditional header, a body of a known and usual size) goes straight to the same functions that the
routes call. Everything else takes the router.
"""

import re
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.answer import WHOLE, Answer
from app.auth.tokens import Verifier
from app.documents.documents import Documents
from app.documents.routes import get_answer, put_answer
from app.failures import failed
from app.metering import RouteMeter, Traffic
from app.neighbours.serving import Write
from app.sync.exchange import Exchange
from app.sync.routes import sync_answer

USUAL_BODY_BYTES = 64 * 1024
_DOCUMENT = re.compile(rb"/v1/documents/([A-Za-z0-9._:~-]{1,128})")
_SYNC = b"/v1/sync"
_UNUSUAL = frozenset(
    (
        b"if-match",
        b"if-none-match",
        b"prefer",
        b"content-encoding",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
    )
)
"""Headers that the routes look at."""

Work = Callable[[str, bytes], Awaitable[Answer]]
"""What answers: from the account and the body."""


class HotRoutes:
    """An ASGI app in front of the router."""

    def __init__(
        self,
        router: ASGIApp,
        verifier: Verifier,
        documents: Documents,
        write: Write,
        traffic: Traffic,
        *,
        max_body_bytes: int,
    ) -> None:
        self._router = traffic.measured(router)
        self._gets = traffic.meter("/v1/documents/{key}", "GET")
        self._puts = traffic.meter("/v1/documents/{key}", "PUT")
        self._syncs = traffic.meter("/v1/sync", "POST")
        self._longest = min(USUAL_BODY_BYTES, max_body_bytes)
        self._verifier = verifier
        self._documents = documents
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = self._hot(scope) if scope["type"] == ScopeType.HTTP else None
        asked = None if hot is None else self._asked(scope)  # type: ignore[arg-type]
        started = perf_counter()
        account = None if asked is None else await self._account(asked[0])
        if hot is None or asked is None or account is None:
            await self._router(scope, receive, send)
            return
        (meter, work), (_, length) = hot, asked
        try:
            body = await _body(receive, length)
            if body is None:
                return
            answer = await work(account, body)
        except Exception as error:
            answer = failed(error, scope["method"], scope["path"])  # type: ignore[typeddict-item]
        await _send(scope, send, answer)  # type: ignore[arg-type]
        meter.note(answer.status, started)

    def _hot(self, scope: HTTPScope) -> tuple[RouteMeter, Work] | None:
        """What counts and what answers this address; None where the router has to look."""
        if scope["query_string"] or scope["root_path"]:
            return None
        path, method = scope["raw_path"], scope["method"]
        if path == _SYNC:
            if method != "POST":
                return None
            return self._syncs, lambda account, body: self._write(account, None, body)
        document = _DOCUMENT.fullmatch(path)
        if document is None:
            return None
        key = document[1].decode()
        if method == "GET":
            return self._gets, lambda account, _: get_answer(self._documents, account, key)
        if method == "PUT":
            return self._puts, lambda account, body: self._write(account, key, body)
        return None

    def _asked(self, scope: HTTPScope) -> tuple[str, int] | None:
        """Token and length of the body; None where the router has to look."""
        token, length = None, None
        for name, value in scope["headers"]:
            if name == b"authorization" and token is None:
                token = value
            elif name == b"content-length" and value.isdigit() and length is None:
                length = int(value)
            elif name in _UNUSUAL or name == b"authorization" or name == b"content-length":
                return None
        if token is None or not token.startswith(b"Bearer "):
            return None
        if (scope["method"] == "GET") != (length is None) or (length or 0) > self._longest:
            return None
        return token[7:].decode("latin-1"), length or 0

    async def _account(self, token: str) -> str | None:
        """The account of a good token; None where the router has to say what is wrong."""
        principal = self._verifier.cached(token)
        if principal is None:
            try:
                principal = await self._verifier.verify(token)
            except Exception:  # the router meets it again, and says what it is
                return None
        return principal.account


def write_answer(
    documents: Documents, exchange: Exchange, account: str, key: str | None, body: bytes
) -> Awaitable[Answer]:
    """Answers a PUT of the document `key`, or a sync where that is None."""
    if key is None:
        return sync_answer(exchange, account, body)
    return put_answer(documents, account, key, body)


async def _body(receive: Receive, length: int) -> bytes | None:
    """The whole body; None if the client is gone."""
    body = b""
    while len(body) < length:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
    return body


async def _send(scope: HTTPScope, send: Send, answer: Answer) -> None:
    whole: Any = (scope.get("extensions") or {}).get(WHOLE)
    if whole is not None and whole(answer):
        return
    headers = answer.all_headers()
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
