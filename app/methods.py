"""Which methods an address takes, for those who ask with OPTIONS."""

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send


class Methods(ASGIMiddleware):
    """Answers OPTIONS with all methods of the address, of whichever handler; needs no token.

    The framework's own answer names those of the handler that was registered first.
    """

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS":
            await next_app(scope, receive, send)
            return
        methods = {
            method
            for route in scope["litestar_app"].routes
            if route.path_format == scope["path_template"]
            for method in route.methods
        }
        allow = ", ".join(sorted(methods)).encode()
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
