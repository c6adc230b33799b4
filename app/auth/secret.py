"""The secret of HS256 tokens: the operator's, or one made for development."""

import os
import re
import secrets
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
    path = data_path / "secret"
    try:
        if not path.exists():
            _create(path)
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path}: the development secret cannot be used ({type(error).__name__}); make it "
            f"readable and its folder writable, or set {variable('jwt_secret')}."
        ) from error
    if not _SECRET.fullmatch(secret):
        raise SettingsError(
            f"{path}: this is no development secret; delete the file to get a new one."
        )
    return secret


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"secret.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all, and only for the first process that makes it.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
