"""Addresses that must lead nowhere."""

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from app.errors import Code, SynclineError


class Addresses(ASGIMiddleware):
    """Refuses an encoded slash, which the router takes for one between two parts of an address:
    a document `a%2F`, which cannot be, would be found and written as `a`."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        if b"%2F" in scope["raw_path"].upper():
            detail = "No part of an address holds a slash, also not as %2F."
            of_document = scope["path"].startswith("/v1/documents/")
            raise SynclineError(Code.INVALID_KEY if of_document else Code.NOT_FOUND, detail)
        await next_app(scope, receive, send)
