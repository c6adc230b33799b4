"""`syncline config`: every setting with its present value, and without what would let others in."""

import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from app.settings import Settings, variable

SECRETS = {"admin_token", "jwt_secret"}
URLS = {"database_url", "jwks_url", "redis_url"}
PASSWORD = re.compile(r"([?&][^=&]*pass(?:word|phrase)?[^=&]*=)[^&]*", re.IGNORECASE)


def settings_rows(settings: Settings) -> list[tuple[str, str, str, str]]:
    """Of each setting: its variable, meaning, default and present value."""
    return [
        (variable(name), meaning, _text(default), _shown(name, getattr(settings, name)))
        for name, meaning, default in _fields()
    ]


def _shown(name: str, value: object) -> str:
    """The value, without what would let others in."""
    if name in SECRETS and value:
        return "(set)"
    return _without_password(str(value)) if name in URLS and value else _text(value)


def _without_password(url: str) -> str:
    """Whatever may be a password is hidden, also where it is not written as it has to be."""
    scheme, separator, rest = url.partition("://")
    user, at, place = PASSWORD.sub(r"\1(set)", rest).rpartition("@")
    if not separator or not scheme.replace("+", "").isalnum() or not (at or _has_host(url)):
        return "(set)"
    name = re.match(r"[^:/?#@]*:?", user)
    assert name is not None
    hidden = user if name[0] == user else f"{name[0]}(set)"
    return f"{scheme}://{hidden}{at}{place}"


def _has_host(url: str) -> bool:
    """Whether what stands first is an address, and not a name and a password without their host."""
    with suppress(ValueError):
        return urlsplit(url).port != 0
    return False


def _fields() -> Iterator[tuple[str, str, object]]:
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    for field in msgspec.structs.fields(Settings):
        yield field.name, schema[field.name]["description"], field.default


def _text(value: object) -> str:
    return "-" if value is None else str(value)
