"""Who is asking, for every request below /v1: `request.user` is the Principal, and the Operator
below /v1/admin.

Litestar runs this inside its router, so `scope["path"]` is the path that the router matched
(`//v1//documents/` arrives as `/v1/documents`), and what is raised here reaches the
exception handlers of the app. An ASGI app mounted below /v1 would see its own path only:
do not mount one there.
"""

from collections.abc import Iterable
from hmac import compare_digest

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from app.auth.tokens import Verifier
from app.auth.types import Operator, Principal
from app.errors import Code, SynclineError

PROTECTED = "/v1"
ADMIN = "/v1/admin"


class Authentication(ASGIMiddleware):
    """Sets `scope["user"]`; raises SynclineError (TOKEN_MISSING, ADMIN_ONLY, or what `verify`
    raises).

    Sockets pass: their token comes in the first frame.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(self, verifier: Verifier, admin_token: str) -> None:
        self._verifier = verifier
        self._admin_token = admin_token.encode()

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        path = scope["path"]
        if _is_below(path, PROTECTED):
            token = bearer_token(scope["headers"])
            if _is_below(path, ADMIN):
                scope["user"] = await self._operator(token)
            else:
                scope["user"] = await self._principal(token)
        await next_app(scope, receive, send)

    async def _principal(self, token: str) -> Principal:
        principal = self._verifier.cached(token)
        return await self._verifier.verify(token) if principal is None else principal

    async def _operator(self, token: str) -> Operator:
        """Raises ADMIN_ONLY where a user asks, so that only who has no token is told to get one."""
        if compare_digest(token.encode(), self._admin_token):
            return Operator()
        await self._principal(token)
        raise SynclineError(Code.ADMIN_ONLY, "Send the operator's token; a user's opens nothing.")


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")


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
