"""Who is asking, for every request below /v1: `request.user` is the Principal.

Litestar runs this inside its router, so `scope["path"]` is the path that the router matched
(`//v1//documents/` arrives as `/v1/documents`), and what is raised here reaches the
exception handlers of the app. An ASGI app mounted below /v1 would see its own path only:
do not mount one there.
"""

from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from app.auth.tokens import Verifier
from app.errors import Code, SynclineError

PROTECTED = "/v1"


class Authentication(ASGIMiddleware):
    """Sets `scope["user"]`; raises SynclineError (TOKEN_MISSING, or what `verify` raises).

    Sockets pass: their token comes in the first frame.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        path = scope["path"]
        if path == PROTECTED or path.startswith(PROTECTED + "/"):
            token = bearer_token(scope["headers"])
            principal = self._verifier.cached(token)
            if principal is None:
                principal = await self._verifier.verify(token)
            scope["user"] = principal
        await next_app(scope, receive, send)


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token of `Authorization: Bearer …` (RFC 6750 §2.1); raises SynclineError."""
    values = [value for name, value in headers if name == b"authorization"]
    if not values:
        raise SynclineError(
            Code.TOKEN_MISSING, "Send the header `Authorization: Bearer <token>` with a token."
        )
    scheme, _, token = values[0].partition(b" ")
    # Two headers could be read differently by a proxy before us, so none of them counts.
    if len(values) > 1 or scheme.lower() != b"bearer" or not token.isascii():
        raise SynclineError(
            Code.TOKEN_INVALID, "Send one header, of the form `Authorization: Bearer <token>`."
        )
    return token.strip(b" ").decode("ascii")
