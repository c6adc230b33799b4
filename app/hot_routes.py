"""The two hottest requests, past the router: `PUT` and `GET` of one document, plainly asked.

What a router, a request object and dependency injection do for a request costs more than the
write itself. So a request that needs none of it (a token that was verified before, a key as it
stands, no query, no conditional header, a body of a known and usual size) goes straight to the
same functions that the routes call. Everything else, and every method, takes the router.
"""

import re

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from app import problems
from app.auth.tokens import Verifier
from app.documents.documents import Documents
from app.documents.routes import Answer, get_answer, put_answer
from app.failures import failure

_PATH = re.compile(rb"/v1/documents/([A-Za-z0-9._:~-]{1,128})")
USUAL_BODY_BYTES = 64 * 1024
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


class HotRoutes:
    """An ASGI app in front of the router."""

    def __init__(
        self, router: ASGIApp, verifier: Verifier, documents: Documents, *, max_body_bytes: int
    ) -> None:
        self._router = router
        self._longest = min(USUAL_BODY_BYTES, max_body_bytes)
        self._verifier = verifier
        self._documents = documents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._asked(scope)
        if asked is None:
            await self._router(scope, receive, send)
            return
        account, key, length = asked
        try:
            if length < 0:
                answer = await get_answer(self._documents, account, key)
            else:
                body = await _body(receive, length)
                if body is None:
                    return
                answer = await put_answer(self._documents, account, key, body)
        except Exception as error:
            answer = _failed(error, "GET" if length < 0 else "PUT", key)
        await _send(send, answer)

    def _asked(self, scope: Scope) -> tuple[str, str, int] | None:
        """Account, key and length of the body (-1: a GET); None where the router has to look."""
        if scope["type"] != ScopeType.HTTP or scope["query_string"] or scope["root_path"]:
            return None
        path = _PATH.fullmatch(scope["raw_path"])
        method = scope["method"]
        if path is None or (method != "GET" and method != "PUT"):
            return None
        token, length = None, -1
        for name, value in scope["headers"]:
            if name == b"authorization" and token is None:
                token = value
            elif name == b"content-length" and value.isdigit() and length < 0:
                length = int(value)
            elif name in _UNUSUAL or name == b"authorization" or name == b"content-length":
                return None
        if token is None or not token.startswith(b"Bearer "):
            return None
        if length > self._longest or (method == "PUT") != (length >= 0):
            return None
        principal = self._verifier.cached(token[7:].decode("latin-1"))
        if principal is None:
            return None
        return principal.account, path[1].decode(), length


async def _body(receive: Receive, length: int) -> bytes | None:
    """The whole body; None if the client is gone."""
    body = b""
    while len(body) < length:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
    return body


async def _send(send: Send, answer: Answer) -> None:
    headers = [
        (b"content-type", answer.media_type),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _failed(error: Exception, method: str, key: str) -> Answer:
    status, headers, body = failure(error, method, f"/v1/documents/{key}")
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return Answer(status, raw, body, problems.MEDIA_TYPE.encode())
