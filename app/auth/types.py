"""Who is asking."""

import re

import msgspec

ACCOUNT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,128}")
"""An account, matched whole: no control characters, and no lone surrogates, which PostgreSQL
refuses."""


class Principal(msgspec.Struct, frozen=True):
    """The authenticated caller: `account` is the token's `sub`, `expires_at_s` its `exp`."""

    account: str
    expires_at_s: float | None


class Operator(msgspec.Struct, frozen=True):
    """Who runs the service, on the admin routes: no account, so nothing can be done as one."""
