"""What an operator can set: environment variables, read once, checked at start, then frozen."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

PREFIX = "SYNCLINE_"
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_BEARER = re.compile(r"[!-~]{32,}")
"""What a header can carry as it is."""


class SettingsError(Exception):
    """A variable holds something that Syncline cannot use."""


def _text(meaning: str) -> Meta:
    return Meta(description=meaning)


def _limit(meaning: str, minimum: int = 1) -> Meta:
    return Meta(description=meaning, ge=minimum)


def _seconds(meaning: str) -> Meta:
    return Meta(description=f"{meaning}, in seconds", gt=0, le=86_400)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each field is the variable SYNCLINE_<FIELD>; its meaning, unit and default stand here."""

    database_url: Annotated[
        str | None, _text("PostgreSQL 15 to 18; none: an embedded one in the data directory")
    ] = None
    data_dir: Annotated[str, _text("Embedded database and generated secrets")] = "./.syncline"
    host: Annotated[str, _text("Address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0: any free one", ge=0, le=65535)] = (
        8080
    )
    workers: Annotated[int, _limit("Processes on this machine")] = 1
    rules: Annotated[
        str | None, _text("Python module or file that registers the app's merge rules")
    ] = None

    jwt_secret: Annotated[
        str | None, _text("Secret of HS256 tokens, 32 bytes or more; none: a development secret")
    ] = None
    jwks_url: Annotated[
        str | None, _text("Where the public keys of RS256, ES256 and EdDSA tokens are")
    ] = None
    jwt_audience: Annotated[str | None, _text("Audience that a token must name")] = None
    jwt_issuer: Annotated[str | None, _text("Issuer that a token must name")] = None
    admin_token: Annotated[
        str | None, _text("Token of the admin routes, 32 bytes or more; none: one is generated")
    ] = None

    redis_url: Annotated[
        str | None, _text("Redis for the leaderboard, and for pokes across machines; none: without")
    ] = None

    pool_size: Annotated[
        int, _limit("Database connections of one process, beside those of the lanes")
    ] = 6
    write_lanes: Annotated[
        int,
        _limit(
            "Batches of writes that a process commits at once; 0: 2, or 1 each of several",
            0,
        ),
    ] = 0
    read_lanes: Annotated[int, _limit("Batches of reads that one process asks at once")] = 2
    cache_bytes: Annotated[
        int, _limit("Documents that one process keeps in memory, about; 0: none", minimum=0)
    ] = 64 * 1024 * 1024
    queue_limit: Annotated[int, _limit("Writes that may wait in one process; more get 503")] = 4096
    batch_limit: Annotated[int, _limit("Mutations in one transaction, at most")] = 512
    statement_timeout_ms: Annotated[int, _limit("Time for one database statement")] = 10_000
    drain_s: Annotated[
        float,
        Meta(description="Seconds of /readyz 503 before listening ends at a stop", ge=0, le=3600),
    ] = 0.0

    max_body_bytes: Annotated[int, _limit("Size of a request body")] = 8 * 1024 * 1024
    max_header_bytes: Annotated[int, _limit("Size of a request's address and headers")] = 64 * 1024
    max_document_bytes: Annotated[int, _limit("Size of a document")] = 256 * 1024
    max_document_keys: Annotated[int, _limit("Object keys in a document, all levels")] = 10_000
    max_documents: Annotated[int, _limit("Documents of one account")] = 10_000
    max_mutations: Annotated[int, _limit("Mutations in one sync")] = 500
    max_events: Annotated[int, _limit("Events in one request")] = 500
    max_event_bytes: Annotated[int, _limit("Size of the payload of an event")] = 16 * 1024
    event_days: Annotated[
        int, _limit("Days that an event may lie in the past; an older one is dated so")
    ] = 366
    max_levels: Annotated[int, _limit("Levels in the catalogue")] = 10_000
    max_operations: Annotated[int, _limit("Operations in one PATCH")] = 500
    max_changes: Annotated[int, _limit("Changes in one answer of a sync")] = 500
    max_answer_bytes: Annotated[int, _limit("Size of the documents in one answer of a sync")] = (
        8 * 1024 * 1024
    )
    history: Annotated[int, _limit("Revisions kept of each document")] = 32
    mutation_days: Annotated[int, _limit("Days for which the id of a mutation is remembered")] = 90

    board_weeks: Annotated[
        int,
        # Further back the calendar ends, and with it every answer.
        Meta(description="Weeks before this one whose leaderboards are kept", ge=0, le=2_000),
    ] = 12

    rejection_days: Annotated[
        int, _limit("Days for which it is kept that something was refused")
    ] = 30
    live_sockets: Annotated[
        int, _limit("Live sockets of one process; more are closed with 4429")
    ] = 20_000
    live_account_sockets: Annotated[
        int, _limit("Live sockets of one account in one process; more are closed with 4429")
    ] = 32
    live_hello_s: Annotated[float, _seconds("Time in which a socket has to say hello")] = 5.0
    live_frame_bytes: Annotated[int, _limit("Size of a frame that a client sends")] = 1024 * 1024
    live_frames_per_s: Annotated[
        int, _limit("Frames that a client may send, five seconds' worth of them at once")
    ] = 40
    live_changes: Annotated[int, _limit("Changes that are sent unasked; more are a poke")] = 100
    live_change_bytes: Annotated[
        int, _limit("Size of the documents that are sent unasked; more are a poke")
    ] = 64 * 1024
    live_answer_bytes: Annotated[
        int, _limit("Size of the documents in the answer to a push over a socket")
    ] = 256 * 1024
    live_send_s: Annotated[
        float,
        _seconds("Time for a client to take what is sent; then resync, and as long again 4408"),
    ] = 10.0
    live_ping_s: Annotated[float, _seconds("Time between two pings of a socket")] = 10.0
    live_ping_timeout_s: Annotated[float, _seconds("Time for the answer to a ping; then 4408")] = (
        5.0
    )
    live_sweep_s: Annotated[
        float, _seconds("Time between two looks at what the other processes may not have told")
    ] = 2.0
    live_reauth_s: Annotated[
        float, _seconds("How long before a token expires the client is asked for another")
    ] = 60.0
    live_trust_s: Annotated[
        float, _seconds("Time after which a socket is asked for its token again in any case")
    ] = 3600.0

    socketio: Annotated[
        bool, _text("Serve clients of Socket.IO at /socket.io; needs the extra `socketio`")
    ] = False

    fold_days: Annotated[
        int, _limit("Days after which edits and devices that were away are folded together")
    ] = 180

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir).expanduser().absolute()


def variable(field: str) -> str:
    return PREFIX + field.upper()


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from SYNCLINE_ variables; raises SettingsError naming the variable at fault."""
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    given = {
        name: environment[variable(name)]
        for name in fields
        if environment.get(variable(name), "") != ""
    }
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        name = variable(path.rstrip("`")) if path else "a variable"
        raise SettingsError(f"{name}: {message[0].lower()}{message[1:]}.") from error
    if settings.redis_url is not None and not settings.redis_url.startswith(REDIS_SCHEMES):
        raise SettingsError(f"SYNCLINE_REDIS_URL: it begins with {' or '.join(REDIS_SCHEMES)}.")
    if settings.jwt_secret is not None and len(settings.jwt_secret.encode()) < 32:
        raise SettingsError("SYNCLINE_JWT_SECRET: a secret needs 32 bytes or more.")
    if settings.admin_token is not None and not _BEARER.fullmatch(settings.admin_token):
        raise SettingsError(
            "SYNCLINE_ADMIN_TOKEN: a token needs 32 bytes or more, of ASCII without spaces."
        )
    return settings


BY_INSTALLATION = "SYNCLINE_COMPILE"
"""Read by `pip install`, and often still set when the service starts."""


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that look like settings of Syncline and are none; a typo, most likely."""
    known = {variable(field.name) for field in msgspec.structs.fields(Settings)} | {BY_INSTALLATION}
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
