"""Tokens: signed text to principal (RFC 7519), and an account to a development token.

The signature is PyJWT's work. The claims are read here, because time comes from our clock.
"""

import base64
import re

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from app.auth.keys import KEY_ALGORITHMS, Fetch, Keys
from app.auth.types import ACCOUNT, Principal
from app.clock import Clock
from app.errors import Code, SynclineError
from app.settings import Settings, SettingsError, variable

TOKEN_LIMIT = 8 * 1024
"""Characters; more are refused unread."""
CACHE_LIMIT = 10_000
CACHE_MS = 5 * 60 * 1000
"""How long a token rests in the cache if it names no end, or if its key may be revoked."""
CLOCK_LEEWAY_S = 60
"""How far `nbf` and `iat` may lie ahead: the issuer's clock is not ours. `exp` has no leeway."""
SECRET_MINIMUM_BYTES = 32

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_JWS = jwt.PyJWS(options={"enforce_minimum_key_length": True})

_MALFORMED = "The bearer token is not a signed JSON Web Token; sign in again to get one."
_UNTRUSTED = "No key that this service trusts signed the token; sign in again to get a new one."
_BAD_CLAIMS = (
    "The token's claims cannot be used: `sub` must be 1 to 128 characters without control "
    "characters, `exp`, `nbf` and `iat` numbers, `iss` and `aud` text; have it issued anew."
)
_TOO_EARLY = "The token is not valid yet; wait, or correct the clock of the server that issued it."
_EXPIRED = "The token has expired; refresh it or sign in again."


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None


class _Claims(msgspec.Struct):
    sub: str
    exp: float | None = None
    nbf: float | None = None
    iat: float | None = None
    iss: str | None = None
    aud: str | list[str] | None = None


class _Verified(msgspec.Struct, frozen=True):
    principal: Principal
    until_ms: float


class Verifier:
    """Turns tokens into principals, and remembers those that it has verified.

    HS256 is checked with `secret`, RS256, ES256 and EdDSA with the keys at
    `settings.jwks_url`; without a secret, or without an address, those are refused.
    """

    def __init__(self, settings: Settings, secret: str | None, clock: Clock, fetch: Fetch) -> None:
        """Raises SettingsError if the secret or the address cannot be used."""
        self._secret = None if secret is None else _checked_secret(secret)
        self._keys = Keys(settings.jwks_url, clock, fetch) if settings.jwks_url else None
        assert self._secret or self._keys, "nothing to verify tokens with"
        self._audience = settings.jwt_audience
        self._issuer = settings.jwt_issuer
        self._clock = clock
        self._cache: dict[str, _Verified] = {}

    def cached(self, token: str) -> Principal | None:
        """The principal of a token that was verified before and still holds; the hot path."""
        verified = self._cache.get(token)
        if verified is not None and self._clock() < verified.until_ms:
            return verified.principal
        return None

    async def verify(self, token: str) -> Principal:
        """Raises SynclineError: TOKEN_INVALID, TOKEN_EXPIRED or KEYS_UNAVAILABLE."""
        # 1. Refuse what cannot be a token before any work.
        if len(token) > TOKEN_LIMIT or not _COMPACT.fullmatch(token):
            raise _invalid(_MALFORMED)
        if (principal := self.cached(token)) is not None:
            return principal
        # 2. Find the key. The header only asks; the key says which algorithm it verifies.
        header = _header(token)
        key, trusted_until_ms = await self._key(header)
        # 3. Check the signature, then what was signed.
        claims = _signed_claims(token, key)
        now_ms = self._clock()
        self._check_claims(claims, now_ms)
        # 4. Remember it, no longer than it and its key hold.
        principal = Principal(claims.sub, claims.exp)
        limits = [trusted_until_ms]
        if claims.exp is not None:
            limits.append(claims.exp * 1000)
        if key is not self._secret or claims.exp is None:
            limits.append(now_ms + CACHE_MS)
        self._remember(token, _Verified(principal, min(limits)))
        return principal

    async def aclose(self) -> None:
        """End a fetch of keys that is under way."""
        if self._keys is not None:
            await self._keys.aclose()

    async def _key(self, header: _Header) -> tuple[bytes | jwt.PyJWK, float]:
        """The key for a token with this header, and until when (ms) it may be relied on."""
        if header.alg == "HS256" and self._secret is not None:
            return self._secret, float("inf")
        if header.alg in KEY_ALGORITHMS and self._keys is not None:
            key = await self._keys.find(header.kid, header.alg)
            if key is not None:
                return key, self._keys.trusted_until_ms
        raise _invalid(_UNTRUSTED)

    def _check_claims(self, claims: _Claims, now_ms: int) -> None:
        now_s = now_ms / 1000
        if not ACCOUNT.fullmatch(claims.sub):
            raise _invalid(_BAD_CLAIMS)
        if claims.exp is not None and claims.exp <= now_s:
            raise SynclineError(Code.TOKEN_EXPIRED, _EXPIRED)
        if max(claims.nbf or 0, claims.iat or 0) > now_s + CLOCK_LEEWAY_S:
            raise _invalid(_TOO_EARLY)
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud or []
        if self._audience is not None and self._audience not in audiences:
            raise _invalid("The token is not meant for this service; ask for one whose `aud` is.")
        if self._issuer is not None and claims.iss != self._issuer:
            raise _invalid("The token is from an issuer that this service does not trust.")

    def _remember(self, token: str, verified: _Verified) -> None:
        if len(self._cache) >= CACHE_LIMIT:
            del self._cache[next(iter(self._cache))]
        self._cache[token] = verified


def mint(
    secret: str,
    account: str,
    *,
    ttl_s: int,
    now_ms: int,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """An HS256 token for `account`, valid for `ttl_s` seconds; ValueError for no account."""
    if not ACCOUNT.fullmatch(account):
        raise ValueError("an account is 1 to 128 characters without control characters")
    now_s = now_ms // 1000
    named = {"aud": audience, "iss": issuer}
    claims: dict[str, str | int] = {"sub": account, "iat": now_s, "exp": now_s + ttl_s}
    claims |= {name: value for name, value in named.items() if value is not None}
    return _JWS.encode(msgspec.json.encode(claims), _checked_secret(secret), "HS256")


def _invalid(detail: str) -> SynclineError:
    return SynclineError(Code.TOKEN_INVALID, detail)


def _checked_secret(secret: str) -> bytes:
    # A public key as the secret would let everybody sign, so PyJWT refuses it; say so at start.
    try:
        prepared = HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise SettingsError(
            f"{variable('jwt_secret')}: this is a public key or certificate, not a secret; "
            f"give the address of public keys in {variable('jwks_url')}."
        ) from error
    if len(prepared) < SECRET_MINIMUM_BYTES:
        raise SettingsError(
            f"{variable('jwt_secret')}: a secret needs {SECRET_MINIMUM_BYTES} bytes or more."
        )
    return prepared


def _header(token: str) -> _Header:
    segment = token.partition(".")[0]
    try:
        decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        return msgspec.json.decode(decoded, type=_Header)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise _invalid(_MALFORMED) from None


def _signed_claims(token: str, key: bytes | jwt.PyJWK) -> _Claims:
    """The claims, if `key` signed them with the one algorithm that it is for."""
    algorithm = "HS256" if isinstance(key, bytes) else key.algorithm_name
    try:
        payload: bytes = _JWS.decode(token, key, algorithms=[algorithm])
    except jwt.PyJWTError:
        raise _invalid(_UNTRUSTED) from None
    try:
        return msgspec.json.decode(payload, type=_Claims)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise _invalid(_BAD_CLAIMS) from None
