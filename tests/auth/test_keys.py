"""Tokens checked with keys from a JWKS address: real keys, and real HTTP that is counted."""

import asyncio
import base64
import gzip
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from app.auth.keys import (
    DOCUMENT_LIMIT_BYTES,
    FIRST_RETRY_MS,
    REFRESH_MS,
    RETRY_MS,
    FetchError,
    HttpFetch,
    parse_keys,
)
from app.auth.tokens import CACHE_MS, Verifier, mint
from app.errors import Code, SynclineError
from app.settings import Settings, SettingsError

NOW_S = 1_764_000_000
SECRET = "0123456789abcdef0123456789abcdef"

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}
TO_JWK: dict[str, Callable[..., dict[str, Any]]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


def public_jwk(algorithm: str, private: Any = None, **members: Any) -> dict[str, Any]:
    key = private or PRIVATE[algorithm]
    jwk = TO_JWK[algorithm](key.public_key(), as_dict=True)
    return {**jwk, **members}


def signed(algorithm: str, kid: str | None, private: Any = None, **claims: Any) -> str:
    header = {} if kid is None else {"kid": kid}
    key = private or PRIVATE[algorithm]
    return jwt.encode({"sub": "anna", **claims}, key, algorithm, headers=header)


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = NOW_S * 1000

    def __call__(self) -> int:
        return self.now_ms


class JwksServer:
    """An identity provider's key address on 127.0.0.1; tests change what it answers."""

    def __init__(self) -> None:
        self.body = b'{"keys": []}'
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause_s = 0.0
        self.drip_s = 0.0
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                time.sleep(server.pause_s)
                self.send_response(server.status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    if server.drip_s:
                        for byte in server.body:
                            self.wfile.write(bytes([byte]))
                            self.wfile.flush()
                            time.sleep(server.drip_s)
                    else:
                        self.wfile.write(server.body)
                except OSError:
                    pass  # The client has had enough, which is what the test is about.

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/keys"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[JwksServer]:
    server = JwksServer()
    yield server
    server.stop()


@pytest.fixture
async def fetch() -> AsyncIterator[HttpFetch]:
    fetch = HttpFetch(timeout_s=1)
    yield fetch
    await fetch.aclose()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def verifier(
    server: JwksServer, clock: FakeClock, fetch: HttpFetch
) -> AsyncIterator[Verifier]:
    verifier = Verifier(Settings(jwks_url=server.url), None, clock, fetch)
    yield verifier
    await verifier.aclose()


async def refusal(verifier: Verifier, token: str) -> Code:
    with pytest.raises(SynclineError) as caught:
        await verifier.verify(token)
    assert verifier.cached(token) is None
    assert token not in caught.value.detail
    assert "127.0.0.1" not in caught.value.detail
    return caught.value.code


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_each_algorithm_verifies_with_its_key(
    server: JwksServer, verifier: Verifier, algorithm: str
) -> None:
    """The three that the design promises; one fetch serves all that follow."""
    server.publish(*(public_jwk(name, kid=name) for name in PRIVATE))
    token = signed(algorithm, algorithm, exp=NOW_S + 60)
    assert (await verifier.verify(token)).account == "anna"
    await verifier.verify(signed(algorithm, algorithm, n=2))
    assert server.requests == 1


async def test_a_forged_signature_is_invalid(server: JwksServer, verifier: Verifier) -> None:
    """The right kid with another key's signature is the plainest forgery."""
    server.publish(public_jwk("RS256", kid="a"))
    forged = signed("RS256", "a", private=RSA_OTHER)
    assert await refusal(verifier, forged) is Code.TOKEN_INVALID


async def test_the_kid_chooses_the_key(server: JwksServer, verifier: Verifier) -> None:
    """Two keys of one family are normal during a rotation; neither stands in for the other."""
    server.publish(public_jwk("RS256", kid="a"), public_jwk("RS256", private=RSA_OTHER, kid="b"))
    assert (await verifier.verify(signed("RS256", "b", private=RSA_OTHER))).account == "anna"
    assert await refusal(verifier, signed("RS256", "b")) is Code.TOKEN_INVALID


def public_forms(private: Any) -> list[bytes]:
    key = private.public_key()
    info = PublicFormat.SubjectPublicKeyInfo
    pem, der = key.public_bytes(Encoding.PEM, info), key.public_bytes(Encoding.DER, info)
    algorithm = next(name for name, known in PRIVATE.items() if known is private)
    return [pem, pem.strip(), der, json.dumps(public_jwk(algorithm)).encode()]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("secret", [None, SECRET])
async def test_a_public_key_is_never_a_secret(
    server: JwksServer, clock: FakeClock, fetch: HttpFetch, algorithm: str, secret: str | None
) -> None:
    """Key confusion (RFC 8725 §2.1): HS256 over the public key, which everybody has."""
    server.publish(public_jwk(algorithm, kid="a"))
    verifier = Verifier(Settings(jwks_url=server.url), secret, clock, fetch)
    await verifier.verify(signed(algorithm, "a"))
    hmac = jwt.get_algorithm_by_name("HS256")
    for material in public_forms(PRIVATE[algorithm]):
        for header in ({"alg": "HS256", "kid": "a"}, {"alg": "HS256"}):
            parts = (json.dumps(header).encode(), b'{"sub":"anna"}')
            text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
            seal = base64.urlsafe_b64encode(hmac.sign(text, material)).rstrip(b"=")
            forged = (text + b"." + seal).decode()
            assert await refusal(verifier, forged) is Code.TOKEN_INVALID


async def test_an_embedded_key_is_not_believed(server: JwksServer, verifier: Verifier) -> None:
    """A token that brings its own key (`jwk`, `jku`) vouches for itself (CVE-2018-0114)."""
    server.publish(public_jwk("RS256", kid="a"))
    header = {"kid": "a", "jwk": public_jwk("RS256", private=RSA_OTHER), "jku": server.url}
    forged = jwt.encode({"sub": "anna"}, RSA_OTHER, "RS256", headers=header)
    assert await refusal(verifier, forged) is Code.TOKEN_INVALID
    assert server.requests == 1


async def test_the_key_decides_the_algorithm(server: JwksServer, verifier: Verifier) -> None:
    """RS512 and PS256 are made with the same key; they were not agreed on."""
    server.publish(public_jwk("RS256", kid="a"))
    for algorithm in ("RS384", "RS512", "PS256"):
        assert await refusal(verifier, signed(algorithm, "a", RSA_KEY)) is Code.TOKEN_INVALID
    assert await refusal(verifier, signed("ES256", "a")) is Code.TOKEN_INVALID
    assert await refusal(verifier, signed("EdDSA", "a")) is Code.TOKEN_INVALID


async def test_hs256_is_off_with_jwks_alone(server: JwksServer, verifier: Verifier) -> None:
    """No secret was set, so no shared secret may open the door, and none is asked for."""
    token = mint(SECRET, "anna", ttl_s=60, now_ms=NOW_S * 1000)
    assert await refusal(verifier, token) is Code.TOKEN_INVALID
    assert server.requests == 0


async def test_a_secret_and_jwks_work_side_by_side(
    server: JwksServer, clock: FakeClock, fetch: HttpFetch
) -> None:
    """An operator who sets both, for example while moving over, gets both."""
    server.publish(public_jwk("RS256", kid="a"))
    verifier = Verifier(Settings(jwks_url=server.url), SECRET, clock, fetch)
    token = mint(SECRET, "ben", ttl_s=60, now_ms=NOW_S * 1000)
    assert (await verifier.verify(token)).account == "ben"
    assert server.requests == 0
    assert (await verifier.verify(signed("RS256", "a"))).account == "anna"


async def test_a_token_without_kid_needs_a_single_key(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Small issuers give no kid; with two keys nobody can say which, and trying all is no rule."""
    unusable = public_jwk("RS256", private=SHORT, kid="s")
    server.publish(public_jwk("RS256", kid="a"), public_jwk("ES256", kid="b"), unusable)
    assert (await verifier.verify(signed("RS256", None))).account == "anna"
    assert await refusal(verifier, signed("EdDSA", None)) is Code.TOKEN_INVALID
    server.publish(public_jwk("RS256", kid="a"), public_jwk("RS256", private=RSA_OTHER, kid="c"))
    clock.now_ms += REFRESH_MS
    assert await refusal(verifier, signed("RS256", None)) is Code.TOKEN_INVALID


PRIVATE_JWK = RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)
UNUSABLE = {
    "for encryption": public_jwk("RS256", use="enc"),
    "to sign only": public_jwk("RS256", key_ops=["sign"]),
    "operations no list": public_jwk("RS256", key_ops=7),
    "another algorithm": public_jwk("RS256", alg="RS512"),
    "symmetric by name": public_jwk("RS256", alg="HS256"),
    "private": {**PRIVATE_JWK, "key_ops": ["verify"]},
    "kid no text": public_jwk("RS256", kid=7),
    "kty no text": public_jwk("RS256", kty=["RSA"]),
    "no modulus": {"kty": "RSA", "e": "AQAB"},
    "modulus no text": public_jwk("RS256", n=7),
    "modulus zero": public_jwk("RS256", n="AA"),
    "too short": public_jwk("RS256", private=SHORT),
    "empty": {},
}


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
@pytest.mark.parametrize("jwk", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_an_unusable_key_is_ignored(
    server: JwksServer, verifier: Verifier, jwk: dict[str, Any]
) -> None:
    """It must verify nothing, and must not spoil its neighbours (RFC 7517 §5)."""
    server.publish({"kid": "a", **jwk}, public_jwk("ES256", kid="b"))
    private = SHORT if jwk is UNUSABLE["too short"] else RSA_KEY
    assert await refusal(verifier, signed("RS256", "a", private=private)) is Code.TOKEN_INVALID
    assert await refusal(verifier, signed("RS256", None, private=private)) is Code.TOKEN_INVALID
    assert (await verifier.verify(signed("ES256", "b"))).account == "anna"


async def test_a_symmetric_key_in_the_document_is_ignored(
    server: JwksServer, verifier: Verifier
) -> None:
    """A secret that everybody can read is none; PyJWK alone would take it."""
    k = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    server.publish({"kty": "oct", "kid": "a", "k": k, "alg": "HS256"})
    token = jwt.encode({"sub": "anna"}, SECRET, "HS256", headers={"kid": "a"})
    assert await refusal(verifier, token) is Code.TOKEN_INVALID


@pytest.mark.parametrize("private", [ec.generate_private_key(ec.SECP384R1()), "Ed448"])
async def test_other_curves_are_ignored(
    server: JwksServer, verifier: Verifier, private: Any
) -> None:
    """ES256 means P-256 and our EdDSA means Ed25519, whatever the library knows besides."""
    algorithm = "EdDSA" if private == "Ed448" else "ES256"
    key = ed448.Ed448PrivateKey.generate() if private == "Ed448" else private
    server.publish(public_jwk(algorithm, private=key, kid="a"))
    token = jwt.encode({"sub": "x"}, PRIVATE[algorithm], algorithm, headers={"kid": "a"})
    assert await refusal(verifier, token) is Code.TOKEN_INVALID
    if algorithm == "EdDSA":
        token = jwt.encode({"sub": "x"}, key, algorithm, headers={"kid": "a"})
        assert await refusal(verifier, token) is Code.TOKEN_INVALID


async def test_claims_are_checked_for_jwks_tokens_too(
    server: JwksServer, clock: FakeClock, fetch: HttpFetch
) -> None:
    """One set of rules, whichever key signed."""
    server.publish(public_jwk("ES256", kid="a"))
    both = Settings(jwks_url=server.url, jwt_audience="app", jwt_issuer="me")
    verifier = Verifier(both, None, clock, fetch)
    good = {"aud": "app", "iss": "me", "exp": NOW_S + 1}
    assert (await verifier.verify(signed("ES256", "a", **good))).account == "anna"
    for wrong, code in (
        ({"aud": "other"}, Code.TOKEN_INVALID),
        ({"iss": "other"}, Code.TOKEN_INVALID),
        ({"exp": NOW_S}, Code.TOKEN_EXPIRED),
        ({"sub": ""}, Code.TOKEN_INVALID),
    ):
        assert await refusal(verifier, signed("ES256", "a", **{**good, **wrong})) is code


async def test_a_new_key_is_found_after_rotation(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """An issuer rotates without telling us; its users must not wait five minutes."""
    server.publish(public_jwk("RS256", kid="a"))
    await verifier.verify(signed("RS256", "a"))
    server.publish(public_jwk("RS256", kid="a"), public_jwk("ES256", kid="b"))
    clock.now_ms += RETRY_MS
    assert (await verifier.verify(signed("ES256", "b"))).account == "anna"
    assert server.requests == 2


async def test_a_revoked_key_ends_within_the_refresh_time(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Five minutes from the last fetch, cached or not: two lifetimes must not add up."""
    server.publish(public_jwk("RS256", kid="a"), public_jwk("ES256", kid="b"))
    early, late = signed("RS256", "a"), signed("RS256", "a", exp=NOW_S + 9999)
    await verifier.verify(early)
    server.publish(public_jwk("ES256", kid="b"))
    clock.now_ms += REFRESH_MS - 1
    await verifier.verify(late)
    clock.now_ms += 1
    for token in (early, late):
        assert await refusal(verifier, token) is Code.TOKEN_INVALID


async def test_an_empty_document_revokes_everything(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Well-formed and empty is an answer, not an outage."""
    server.publish(public_jwk("RS256", kid="a"))
    await verifier.verify(signed("RS256", "a"))
    server.publish()
    clock.now_ms += REFRESH_MS
    assert await refusal(verifier, signed("RS256", "a")) is Code.TOKEN_INVALID


async def test_a_cached_token_ends_at_exp_or_five_minutes(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Whichever is first."""
    server.publish(public_jwk("RS256", kid="a"))
    brief, long = signed("RS256", "a", exp=NOW_S + 60), signed("RS256", "a", exp=NOW_S + 9999)
    await verifier.verify(brief)
    await verifier.verify(long)
    clock.now_ms += 60_000
    assert verifier.cached(brief) is None
    assert verifier.cached(long) is not None
    clock.now_ms += CACHE_MS - 60_000
    assert verifier.cached(long) is None


async def test_a_storm_of_unknown_kids_costs_one_fetch_in_ten_seconds(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Anybody can make up kids; the issuer must not be hit through us."""
    server.publish(public_jwk("RS256", kid="a"))
    await verifier.verify(signed("RS256", "a"))
    storm = [signed("EdDSA", f"made-up-{n}") for n in range(200)]
    for expected in (1, 2, 3):
        codes = await asyncio.gather(*(refusal(verifier, token) for token in storm))
        assert set(codes) == {Code.TOKEN_INVALID}
        assert server.requests == expected
        clock.now_ms += RETRY_MS


async def test_callers_at_once_share_one_fetch(server: JwksServer, verifier: Verifier) -> None:
    """After a start a thousand clients come at once, and all need the same document."""
    server.publish(public_jwk("RS256", kid="a"))
    server.pause_s = 0.2
    tokens = [signed("RS256", "a", n=n) for n in range(50)]
    principals = await asyncio.gather(*(verifier.verify(token) for token in tokens))
    assert {principal.account for principal in principals} == {"anna"}
    assert server.requests == 1


async def test_a_caller_that_goes_away_does_not_end_the_fetch(
    server: JwksServer, verifier: Verifier
) -> None:
    """A dropped connection cancels its request; the others wait for the same keys."""
    server.publish(public_jwk("RS256", kid="a"))
    server.pause_s = 0.2
    first = asyncio.create_task(verifier.verify(signed("RS256", "a", n=1)))
    second = asyncio.create_task(verifier.verify(signed("RS256", "a", n=2)))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).account == "anna"
    assert server.requests == 1


def break_status(server: JwksServer) -> None:
    server.status = 500


def break_json(server: JwksServer) -> None:
    server.body = b"<html>"


def break_shape(server: JwksServer) -> None:
    server.body = b'{"keys": [7]}'


def break_depth(server: JwksServer) -> None:
    server.body = b'{"keys": [{"x": ' + b"[" * 100_000


def break_size(server: JwksServer) -> None:
    server.body += b" " * DOCUMENT_LIMIT_BYTES


def break_by_redirect(server: JwksServer) -> None:
    server.status, server.headers = 302, {"Location": server.url + "/elsewhere"}


def break_by_packing(server: JwksServer) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    server.body = gzip.compress(server.body)


def break_by_silence(server: JwksServer) -> None:
    server.pause_s = 1.5


def break_by_dripping(server: JwksServer) -> None:
    server.drip_s = 0.05


BREAKS = [
    break_status,
    break_json,
    break_shape,
    break_depth,
    break_size,
    break_by_redirect,
    break_by_packing,
    break_by_silence,
    break_by_dripping,
]


@pytest.mark.parametrize("fail", BREAKS)
async def test_without_any_keys_the_answer_is_503(
    server: JwksServer, verifier: Verifier, clock: FakeClock, fail: Callable[[JwksServer], None]
) -> None:
    """A failed fetch is ours to repair: 401 would make clients throw good tokens away."""
    server.publish(public_jwk("RS256", kid="a"))
    fail(server)
    started = time.monotonic()
    assert await refusal(verifier, signed("RS256", "a")) is Code.KEYS_UNAVAILABLE
    assert time.monotonic() - started < 1.4
    assert await refusal(verifier, signed("RS256", "a", n=2)) is Code.KEYS_UNAVAILABLE
    assert server.requests == 1, "the next caller must not fetch again at once"


async def test_service_recovers_when_the_keys_come_back(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Both start together and the issuer is slower: that must mend by itself, and soon."""
    server.status = 503
    assert await refusal(verifier, signed("RS256", "a")) is Code.KEYS_UNAVAILABLE
    server.status = 200
    server.publish(public_jwk("RS256", kid="a"))
    clock.now_ms += FIRST_RETRY_MS
    assert (await verifier.verify(signed("RS256", "a"))).account == "anna"


async def test_the_pause_after_a_failure_begins_at_its_end(clock: FakeClock) -> None:
    """A fetch may hang longer than the pause lasts; it must not be repeated at once."""
    calls = 0

    async def slow_failure(url: str) -> bytes:
        nonlocal calls
        calls += 1
        clock.now_ms += FIRST_RETRY_MS * 5
        raise FetchError("too slow")

    verifier = Verifier(Settings(jwks_url="http://id.example"), None, clock, slow_failure)
    assert await refusal(verifier, signed("RS256", "a")) is Code.KEYS_UNAVAILABLE
    assert calls == 1


async def test_nobody_listening_is_503(fetch: HttpFetch, clock: FakeClock) -> None:
    """A refused connection is the plainest outage."""
    server = JwksServer()
    server.stop()
    verifier = Verifier(Settings(jwks_url=server.url), None, clock, fetch)
    assert await refusal(verifier, signed("RS256", "a")) is Code.KEYS_UNAVAILABLE


@pytest.mark.parametrize("fail", BREAKS)
async def test_old_keys_serve_while_the_fetch_fails(
    server: JwksServer, verifier: Verifier, clock: FakeClock, fail: Callable[[JwksServer], None]
) -> None:
    """An outage at the issuer must not sign our users out."""
    server.publish(public_jwk("RS256", kid="a"))
    await verifier.verify(signed("RS256", "a"))
    fail(server)
    clock.now_ms += REFRESH_MS
    for n in range(3):
        token = signed("RS256", "a", n=n)
        assert (await verifier.verify(token)).account == "anna"
        assert verifier.cached(token) is not None, "an outage must not empty the cache"
    assert server.requests == 2
    # Perhaps the kid is a new key's: nobody can know now.
    assert await refusal(verifier, signed("ES256", "new")) is Code.KEYS_UNAVAILABLE


async def test_a_hanging_issuer_delays_one_caller_and_not_all(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """With old keys at hand, the retries of an outage run beside the requests."""
    server.publish(public_jwk("RS256", kid="a"))
    await verifier.verify(signed("RS256", "a"))
    server.pause_s = 1.5
    clock.now_ms += REFRESH_MS
    await verifier.verify(signed("RS256", "a", n=1))
    clock.now_ms += RETRY_MS
    started = time.monotonic()
    await verifier.verify(signed("RS256", "a", n=2))
    assert time.monotonic() - started < 0.5
    await asyncio.sleep(0.1)
    assert server.requests == 3


async def test_a_revocation_counts_again_after_an_outage(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """Old keys are a makeshift: the next good document replaces them."""
    server.publish(public_jwk("RS256", kid="a"))
    token = signed("RS256", "a")
    await verifier.verify(token)
    server.status = 500
    clock.now_ms += REFRESH_MS
    await verifier.verify(token)
    server.status = 200
    server.publish(public_jwk("ES256", kid="b"))
    clock.now_ms += RETRY_MS
    assert verifier.cached(token) is None
    await verifier.verify(signed("ES256", "b"))
    assert await refusal(verifier, token) is Code.TOKEN_INVALID


async def test_a_clock_set_back_does_not_freeze_the_keys(
    server: JwksServer, verifier: Verifier, clock: FakeClock
) -> None:
    """NTP may set a wrong clock back by hours; revocation must not wait for those."""
    server.publish(public_jwk("RS256", kid="a"))
    await verifier.verify(signed("RS256", "a"))
    server.publish(public_jwk("ES256", kid="b"))
    clock.now_ms -= 3_600_000
    assert await refusal(verifier, signed("RS256", "a", n=2)) is Code.TOKEN_INVALID


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/k", "keys", "http://", "\0"])
async def test_an_address_that_is_no_http_stops_the_start(url: str, fetch: HttpFetch) -> None:
    """A slip in the settings should be told at start, not at the first request."""
    with pytest.raises(SettingsError, match="SYNCLINE_JWKS_URL"):
        Verifier(Settings(jwks_url=url), None, FakeClock(), fetch)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
MEMBERS = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"]) | JSON},
    optional={
        "crv": st.sampled_from(["P-256", "P-384", "Ed25519", "Ed448"]) | JSON,
        **{name: JSON for name in ("kid", "use", "key_ops", "alg", "n", "e", "x", "y", "d", "k")},
    },
)
DAMAGED = st.tuples(
    st.sampled_from([public_jwk(name, kid="a") for name in PRIVATE]), MEMBERS | st.just({})
).map(lambda pair: {**pair[0], **pair[1]})


@given(
    st.lists(MEMBERS | DAMAGED, max_size=4).map(lambda keys: json.dumps({"keys": keys}).encode())
)
@settings(deadline=None)
async def test_any_document_is_a_set_or_a_failed_fetch(document: bytes) -> None:
    """The document is somebody else's: a strange member must not become a 500."""
    for text in (document, document[:-1], document + b"\xff"):
        try:
            parse_keys(text).find("a", "RS256")
        except FetchError:
            assert text != document
