"""What is wrong with a set-up, and what to do about it."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.auth.secret import admin_token, admin_token_path, hs256_secret
from app.clock import system_clock
from app.compiled import is_compiled
from app.database import embedded
from app.database.engine import Database
from app.database.migrate import OLDEST_SERVER, newest_revision, present_revision
from app.database.roles import ROLE, is_granted
from app.database.trouble import DATABASE_ERRORS, describe, is_unreachable
from app.documents.rules import load_registry
from app.errors import SynclineError
from app.operations import store
from app.settings import Settings, SettingsError, load_settings, unknown_variables
from merge_rules.registry import RegistryError

STATEMENT_TIMEOUT_MS = 5_000
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")
CLOCK_TOLERANCE_MS = 5_000
REDIS_S = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. A bad one says what to do."""

    subject: str
    good: bool
    text: str


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """Looks at settings, tokens, rules and the database; never raises for what it finds."""
    try:
        settings = load_settings(environment)
    except SettingsError as error:
        return [Finding("settings", False, str(error))]
    findings = [
        Finding("settings", False, f"{name} is not a setting: see `syncline config`")
        for name in unknown_variables(environment)
    ] or [Finding("settings", True, "every variable is known and fits")]
    findings += [_code(), _rules(settings), _tokens(settings), _admin_token(settings)]
    findings.append(_folder(settings))
    return findings + _database(settings) + _redis(settings)


def _code() -> Finding:
    if is_compiled():
        return Finding("code", True, "compiled")
    text = "plain Python: installed where there is a C compiler, it would serve more"
    return Finding("code", True, text)


def _rules(settings: Settings) -> Finding:
    try:
        registry = load_registry(settings)
    except RegistryError as error:
        return Finding("rules", False, str(error))
    return Finding("rules", True, f"{len(registry.registered())} keys and patterns have a rule")


def _tokens(settings: Settings) -> Finding:
    try:
        hs256_secret(settings)
    except SettingsError as error:
        return Finding("tokens", False, str(error))
    if settings.jwt_secret is None and settings.jwks_url is None:
        text = "a development secret: set SYNCLINE_JWT_SECRET or SYNCLINE_JWKS_URL for real use"
        return Finding("tokens", True, text)
    return Finding("tokens", True, "JWKS" if settings.jwks_url else "HS256 with your secret")


def _admin_token(settings: Settings) -> Finding:
    """Never makes one: it would be shown to nobody."""
    path = admin_token_path(settings)
    if settings.admin_token is not None:
        return Finding("admin token", True, "yours")
    if not path.exists():
        return Finding("admin token", True, "`syncline serve` makes one, and shows it once")
    try:
        admin_token(settings)
    except SettingsError as error:
        return Finding("admin token", False, str(error))
    text = f"kept in {path}; several machines need one SYNCLINE_ADMIN_TOKEN"
    return Finding("admin token", True, text)


def _folder(settings: Settings) -> Finding:
    folder = settings.data_path
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        text = f"{folder} cannot be written: set SYNCLINE_DATA_DIR to a folder that can"
        return Finding("data directory", False, text)
    return Finding("data directory", True, str(settings.data_path))


def _database(settings: Settings) -> list[Finding]:
    if settings.database_url is not None:
        return asyncio.run(_inspect(settings.database_url))
    if not (settings.data_path / "postgres").exists():
        return [Finding("database", True, "embedded; `syncline serve` makes it")]
    try:
        with embedded.start(settings.data_path, report=lambda _: None) as cluster:
            return asyncio.run(_inspect(cluster.url))
    except embedded.EmbeddedError as error:
        return [Finding("database", False, str(error))]


def _redis(settings: Settings) -> list[Finding]:
    """Nothing fails without it, so nobody notices that it was never there."""
    if settings.redis_url is None:
        return []
    try:
        asyncio.run(_ping(settings.redis_url))
    except (RedisError, OSError, ValueError) as error:
        text = (
            "it cannot be used, so sockets hear late of other processes: start it, or unset "
            f"SYNCLINE_REDIS_URL everywhere ({error})"
        )
        return [Finding("Redis", False, text)]
    return [Finding("Redis", True, "it answers")]


async def _ping(url: str) -> None:
    async with Redis.from_url(
        url, socket_timeout=REDIS_S, socket_connect_timeout=REDIS_S, retry=None
    ) as redis:
        await redis.ping()


def _schema(revision: str | None, *, granted: bool) -> Finding:
    """Of a dump that is restored on another server the role is missing: roles are in no dump."""
    if revision != newest_revision():
        return Finding("schema", False, f"at {revision or 'nothing'}: run `syncline migrate`")
    if not granted:
        text = f"the role {ROLE} may not use the tables: run `syncline migrate`"
        return Finding("schema", False, text)
    return Finding("schema", True, "up to date")


async def _inspect(url: str) -> list[Finding]:
    try:
        database = Database(url, pool_size=1, statement_timeout_ms=STATEMENT_TIMEOUT_MS)
        async with database.connection() as connection:
            version = await store.server_version(connection)
            revision = await present_revision(connection)
            granted = await is_granted(connection)
            clock_ms = await store.server_clock_ms(connection)
            risky = await store.switched_off(connection, DURABILITY)
        await database.close()
    except (SynclineError, ValueError, *DATABASE_ERRORS) as error:
        what = "it cannot be reached" if is_unreachable(error) else "it cannot be used"
        return [Finding("database", False, f"{what}: {describe(error)}")]
    off_ms = abs(system_clock() - clock_ms)
    return [
        Finding(
            "PostgreSQL",
            version >= OLDEST_SERVER,
            f"version {version // 10_000}"
            + ("" if version >= OLDEST_SERVER else ": Syncline needs 15 or newer"),
        ),
        _schema(revision, granted=granted),
        Finding(
            "durability",
            not risky,
            "an acknowledged write survives a crash"
            if not risky
            else f"{', '.join(risky)} is off: a crash can lose acknowledged writes; turn it on",
        ),
        Finding(
            "clocks",
            off_ms <= CLOCK_TOLERANCE_MS,
            "this machine and the database agree"
            if off_ms <= CLOCK_TOLERANCE_MS
            else f"they are {off_ms} ms apart: run NTP on both",
        ),
    ]
