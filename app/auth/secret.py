"""Secrets: the operator's own, or made here and kept in the data directory.

One signs HS256 tokens, for development; the other is the token of the admin routes.
"""

import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from app.settings import Settings, SettingsError, variable

_SECRET = re.compile(r"[A-Za-z0-9_-]{43,}")


def hs256_secret(settings: Settings) -> str | None:
    """The secret to verify and mint with; None: HS256 is off, because only JWKS keys are set."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret
    if settings.jwks_url is not None:
        return None
    return development_secret(settings.data_path)


def development_secret(data_path: Path) -> str:
    """The secret in `data_path`, made at the first call; readable by its owner alone.

    Processes that call at once get the same one. Raises SettingsError if it cannot be used.
    """
    return _kept(data_path / "secret", "development secret", "jwt_secret")[0]


@dataclass(frozen=True, slots=True)
class AdminToken:
    """The token of the admin routes; `path` is where it is kept, None for the operator's own."""

    text: str = field(repr=False)
    path: Path | None = None
    made: bool = False
    """Whether this very call made it, so that it has to be shown to somebody."""


def admin_token(settings: Settings) -> AdminToken:
    """The operator's token, or the one in the data directory, made at the first call.

    Processes that call at once get the same one, and one of them made it. Raises SettingsError
    if it cannot be used.
    """
    if settings.admin_token is not None:
        return AdminToken(settings.admin_token)
    path = admin_token_path(settings)
    text, made = _kept(path, "admin token", "admin_token")
    return AdminToken(text, path, made)


def admin_token_path(settings: Settings) -> Path:
    """Where an admin token is kept that no operator set."""
    return settings.data_path / "admin-token"


def _kept(path: Path, what: str, setting: str) -> tuple[str, bool]:
    """What `path` holds, and whether this call made it."""
    try:
        made = not path.exists() and _create(path)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path}: the {what} cannot be used ({type(error).__name__}); make it "
            f"readable and its folder writable, or set {variable(setting)}."
        ) from error
    if not _SECRET.fullmatch(secret):
        raise SettingsError(f"{path}: this is no {what}; delete the file to get a new one.")
    return secret, made


def _create(path: Path) -> bool:
    """Makes the file, unless another process does so first; whether it was this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all, and only for the first process that makes it.
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
