"""The public keys of an identity provider: fetched, cached, found by `kid` (RFC 7517).

    find(kid) ── key there, set fresh ───────────────────────────→ key
       ├─ set older than 5 minutes ──────→ fetch ─┬─ new set ────→ key or none
       └─ kid unknown, 10 s after the last fetch ─┤
                                                  └─ failed ─────→ old set, or keys-unavailable

However many callers wait, one fetch runs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK, PyJWTError

from app.clock import Clock
from app.errors import Code, SynclineError
from app.settings import SettingsError, variable

FETCH_TIMEOUT_S = 5.0
DOCUMENT_LIMIT_BYTES = 256 * 1024
REFRESH_MS = 5 * 60 * 1000
"""After this time a set is fetched again, so a revoked key lives no longer."""
RETRY_MS = 10_000
"""Between two fetches while there is a set, so that made-up kids cause no storm."""
FIRST_RETRY_MS = 1_000
"""Between two fetches while there is no set and nobody can be served."""

# What may sign, by the key's own type. Symmetric keys (oct) are left out: a secret in a
# public document is none.
_ALGORITHMS = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
KEY_ALGORITHMS = frozenset(_ALGORITHMS.values())

log = structlog.get_logger(__name__)

Fetch = Callable[[str], Awaitable[bytes]]
"""The document at an address; raises FetchError."""


class FetchError(Exception):
    """The keys could not be fetched, or what came is no key set; the text is for the log."""


class HttpFetch:
    """A Fetch over HTTP: no redirects, bounded in time and size. Close it with `aclose`."""

    def __init__(self, timeout_s: float = FETCH_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            follow_redirects=False,
            # Unpacking could pass the size limit in one step, so nothing may come packed.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def __call__(self, url: str) -> bytes:
        try:
            # httpx bounds each read; only this bounds a server that sends byte by byte.
            async with (
                asyncio.timeout(self._timeout_s),
                self._client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise FetchError(f"status {response.status_code}")
                return await _bounded_body(response)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise FetchError(type(error).__name__) from error

    async def aclose(self) -> None:
        await self._client.aclose()


async def _bounded_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > DOCUMENT_LIMIT_BYTES:
            raise FetchError(f"more than {DOCUMENT_LIMIT_BYTES} bytes")
    return bytes(body)


class KeySet:
    """The usable keys of one document. A key's own type says what it may sign."""

    def __init__(self, keys: list[PyJWK]) -> None:
        self._by_name = {(key.key_id, key.algorithm_name): key for key in keys}
        self._by_algorithm: dict[str, list[PyJWK]] = {}
        for key in keys:
            self._by_algorithm.setdefault(key.algorithm_name, []).append(key)

    def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key of that name; without a name, the only key of the algorithm."""
        if kid is not None:
            return self._by_name.get((kid, algorithm))
        keys = self._by_algorithm.get(algorithm, [])
        return keys[0] if len(keys) == 1 else None


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def parse_keys(document: bytes) -> KeySet:
    """Keys of a JWKS document, unusable ones left out (RFC 7517 §5); raises FetchError.

    A well-formed document without keys is a set: its issuer has revoked everything.
    """
    try:
        members = msgspec.json.decode(document, type=_Document).keys
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise FetchError("not a JSON Web Key Set") from error
    keys = [key for member in members if (key := _usable_key(member)) is not None]
    if not keys:
        log.warning("auth.no_usable_keys", listed=len(members))
    return KeySet(keys)


def _usable_key(member: dict[str, Any]) -> PyJWK | None:
    kty, kid, operations = member.get("kty"), member.get("kid"), member.get("key_ops", ["verify"])
    curve = None if kty == "RSA" else member.get("crv")
    if not (isinstance(kty, str) and isinstance(curve, str | None) and isinstance(kid, str | None)):
        return None
    algorithm = _ALGORITHMS.get((kty, curve))
    if algorithm is None or member.get("alg", algorithm) != algorithm:
        return None
    if member.get("use", "sig") != "sig":
        return None
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if "d" in member:
        # Whoever can read this document can sign with that key.
        log.warning("auth.private_key_published")
        return None
    try:
        key = PyJWK(member, algorithm)
    except (PyJWTError, UnsupportedAlgorithm, ArithmeticError, TypeError, ValueError):
        return None
    too_short = key.Algorithm.check_key_length(key.key) is not None
    return None if too_short else key


class Keys:
    """The key set of one address, kept fresh."""

    def __init__(self, url: str, clock: Clock, fetch: Fetch) -> None:
        """Raises SettingsError if the address cannot be fetched at all."""
        _check_url(url)
        self._url = url
        self._clock = clock
        self._fetch = fetch
        self._set: KeySet | None = None
        self._failing = False
        self._fetched_ms = 0
        self._tried_ms: int | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key that may have signed such a token; raises SynclineError(KEYS_UNAVAILABLE)."""
        if self._is_stale() and self._may_fetch():
            fetching = self._start_fetch()
            # The first failure is waited for. From then on there is nothing better than the
            # old set to wait for, and an outage over there must not slow down every caller.
            if self._set is None or not self._failing:
                await asyncio.shield(fetching)
        key = self._lookup(kid, algorithm)
        if key is None and kid is not None and self._may_fetch():
            await asyncio.shield(self._start_fetch())
            key = self._lookup(kid, algorithm)
        if key is None and (self._set is None or self._failing):
            # Perhaps the key is a new one: a 401 would make the caller throw a good token away.
            raise SynclineError(
                Code.KEYS_UNAVAILABLE,
                "The keys that check this token cannot be fetched now; keep it and try again.",
            )
        return key

    @property
    def trusted_until_ms(self) -> int:
        """When the next look at the document is due; what rests on a key rests until then."""
        if self._failing and self._tried_ms is not None:
            return self._tried_ms + RETRY_MS
        return self._fetched_ms + REFRESH_MS

    async def aclose(self) -> None:
        """End a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _lookup(self, kid: str | None, algorithm: str) -> PyJWK | None:
        return None if self._set is None else self._set.find(kid, algorithm)

    def _is_stale(self) -> bool:
        # A clock that was set back makes the age negative, which says nothing: ask again.
        return self._set is None or not 0 <= self._clock() - self._fetched_ms < REFRESH_MS

    def _may_fetch(self) -> bool:
        if self._fetching is not None or self._tried_ms is None:
            return True
        pause_ms = FIRST_RETRY_MS if self._set is None else RETRY_MS
        return not 0 <= self._clock() - self._tried_ms < pause_ms

    def _start_fetch(self) -> asyncio.Task[None]:
        # A task of its own: a caller that goes away must not end the fetch for the others.
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._refresh(self._clock()))
        return self._fetching

    async def _refresh(self, started_ms: int) -> None:
        try:
            self._set = parse_keys(await self._fetch(self._url))
            self._fetched_ms = started_ms
            self._failing = False
        except FetchError as error:
            self._failing = True
            log.warning("auth.keys_fetch_failed", reason=str(error), old_keys=self._set is not None)
        finally:
            self._fetching = None
            # Counted from the end: a fetch that hung until its timeout is not tried again at once.
            self._tried_ms = self._clock()


def _check_url(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"{variable('jwks_url')}: an http or https address is needed.")
