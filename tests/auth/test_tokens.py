"""HS256 tokens, claims and the cache of verified tokens; keys by JWKS are in test_keys.py."""

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.auth.tokens import (
    CACHE_LIMIT,
    CACHE_MS,
    CLOCK_LEEWAY_S,
    TOKEN_LIMIT,
    Verifier,
    mint,
)
from app.auth.types import Principal
from app.errors import Code, SynclineError
from app.settings import Settings, SettingsError

SECRET = "0123456789abcdef0123456789abcdef"
NOW_S = 1_764_000_000


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = NOW_S * 1000

    def __call__(self) -> int:
        return self.now_ms


async def no_fetch(url: str) -> bytes:
    raise AssertionError("HS256 needs no keys from elsewhere")


def verifier(clock: FakeClock | None = None, **given: Any) -> Verifier:
    return Verifier(Settings(**given), SECRET, clock or FakeClock(), no_fetch)


def signed(*, secret: str = SECRET, **claims: Any) -> str:
    return jwt.encode({"sub": "anna", **claims}, secret, "HS256")


def sealed(header: bytes, payload: bytes) -> str:
    """A correctly signed token with any bytes as header and payload."""
    algorithm = jwt.get_algorithm_by_name("HS256")
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    signature = algorithm.sign(text, SECRET.encode())
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def refusal(checked: Verifier, token: str) -> Code:
    with pytest.raises(SynclineError) as caught:
        await checked.verify(token)
    assert checked.cached(token) is None
    # No answer may hand the token, which is a password, to a log or a screen.
    assert len(token) < 8 or token not in caught.value.detail
    return caught.value.code


async def test_a_minted_token_names_its_account() -> None:
    """`syncline token` and the service must agree on one form."""
    token = mint(SECRET, "anna", ttl_s=60, now_ms=NOW_S * 1000)
    assert await verifier().verify(token) == Principal("anna", float(NOW_S + 60))


async def test_a_minted_token_passes_audience_and_issuer() -> None:
    """A development token must work where the settings ask for both."""
    checked = verifier(jwt_audience="app", jwt_issuer="me")
    token = mint(SECRET, "a", ttl_s=9, now_ms=NOW_S * 1000, audience="app", issuer="me")
    assert (await checked.verify(token)).account == "a"


@pytest.mark.parametrize("account", ["", "a" * 129, "a\0", "a\n", "\x85", "\ud800"])
def test_mint_refuses_what_verify_would_refuse(account: str) -> None:
    """A token that is printed and never works would send its user searching."""
    with pytest.raises(ValueError, match="1 to 128 characters"):
        mint(SECRET, account, ttl_s=60, now_ms=0)


async def test_a_token_signed_with_another_secret_is_invalid() -> None:
    """The forged token: the reason why there are signatures."""
    assert await refusal(verifier(), signed(secret="x" * 32)) is Code.TOKEN_INVALID


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
async def test_alg_none_is_invalid(alg: str, signature: str) -> None:
    """An unsigned token is the oldest attack on JWT (RFC 8725 §2.1)."""
    segments = (json.dumps({"alg": alg}), json.dumps({"sub": "anna"}))
    text = ".".join(base64.urlsafe_b64encode(s.encode()).decode().rstrip("=") for s in segments)
    assert await refusal(verifier(), f"{text}.{signature}") is Code.TOKEN_INVALID


@pytest.mark.parametrize("alg", ["HS384", "HS512"])
async def test_other_hashes_of_the_secret_are_invalid(alg: str) -> None:
    """One secret, one algorithm: what is not named in the contract is off."""
    token = jwt.encode({"sub": "anna"}, SECRET * 2, alg)
    assert await refusal(verifier(), token) is Code.TOKEN_INVALID


async def test_expiry_is_exact_and_has_its_own_code() -> None:
    """A client refreshes on token-expired and signs in anew on token-invalid."""
    clock = FakeClock()
    checked = verifier(clock)
    token = signed(exp=NOW_S + 10)
    await checked.verify(token)
    clock.now_ms += 9_999
    assert checked.cached(token) == Principal("anna", float(NOW_S + 10))
    clock.now_ms += 1
    assert await refusal(checked, token) is Code.TOKEN_EXPIRED


async def test_a_token_without_exp_is_read_anew_after_five_minutes() -> None:
    """Nothing may rest in the cache for ever."""
    clock = FakeClock()
    checked = verifier(clock)
    token = signed()
    assert await checked.verify(token) == Principal("anna", None)
    clock.now_ms += CACHE_MS - 1
    assert checked.cached(token) is not None
    clock.now_ms += 1
    assert checked.cached(token) is None
    assert (await checked.verify(token)).account == "anna"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_nbf_and_iat_have_a_minute_of_leeway(claim: str) -> None:
    """The issuer's clock may be ahead of ours; more than a minute is refused."""
    in_time: dict[str, Any] = {claim: NOW_S + CLOCK_LEEWAY_S}
    too_late: dict[str, Any] = {claim: NOW_S + CLOCK_LEEWAY_S + 1}
    assert (await verifier().verify(signed(**in_time))).account == "anna"
    assert await refusal(verifier(), signed(**too_late)) is Code.TOKEN_INVALID


@pytest.mark.parametrize("aud", ["other", ["other"], [], "", None])
async def test_a_wrong_or_missing_audience_is_invalid(aud: object) -> None:
    """A token for another service of the same issuer must not open this one."""
    checked = verifier(jwt_audience="syncline")
    token = signed() if aud is None else signed(aud=aud)
    assert await refusal(checked, token) is Code.TOKEN_INVALID


@pytest.mark.parametrize("aud", ["syncline", ["other", "syncline"]])
async def test_the_right_audience_is_accepted(aud: object) -> None:
    """RFC 7519 §4.1.3 allows one name or a list."""
    checked = verifier(jwt_audience="syncline")
    assert (await checked.verify(signed(aud=aud))).account == "anna"


async def test_any_audience_is_accepted_when_none_is_set() -> None:
    """Most issuers write an aud; an operator who sets none does not mean to refuse it."""
    assert (await verifier().verify(signed(aud="whatever"))).account == "anna"


@pytest.mark.parametrize("claims", [{}, {"iss": "https://evil"}, {"iss": "https://me/"}])
async def test_a_wrong_or_missing_issuer_is_invalid(claims: dict[str, str]) -> None:
    """Issuers are compared as bytes; nearly the same is another."""
    assert await refusal(verifier(jwt_issuer="https://me"), signed(**claims)) is Code.TOKEN_INVALID


@pytest.mark.parametrize("account", ["a", "a" * 128, "ä 漢字 🎮", "auth0|5f7c"])
async def test_accounts_of_common_issuers_are_accepted(account: str) -> None:
    """`sub` is the issuer's to choose; only what harms is refused."""
    assert (await verifier().verify(signed(sub=account))).account == account


HOSTILE_CLAIMS = [
    b"{}",
    b'{"sub": null}',
    b'{"sub": 7}',
    b'{"sub": ""}',
    b'{"sub": "' + b"a" * 129 + b'"}',
    rb'{"sub": "a\u0000b"}',
    rb'{"sub": "a\n"}',
    rb'{"sub": "\ud800"}',
    b'{"sub": "\xff"}',
    b'{"sub": "a", "exp": "1764000001"}',
    b'{"sub": "a", "exp": true}',
    b'{"sub": "a", "exp": NaN}',
    b'{"sub": "a", "exp": Infinity}',
    b'{"sub": "a", "exp": ' + b"9" * 5000 + b"}",
    b'{"sub": "a", "nbf": {}}',
    b'{"sub": "a", "aud": 7}',
    b'{"sub": "a", "aud": [7]}',
    b"[" * 4000,
    b'{"sub": "a", "x": ' + b"[" * 4000 + b"]" * 1000 + b"}",
    b"7",
    b"",
]


@pytest.mark.parametrize("payload", HOSTILE_CLAIMS, ids=lambda p: repr(p[:24]))
async def test_signed_nonsense_is_invalid_and_never_an_accident(payload: bytes) -> None:
    """A key holder with a bug, or a bad one, must get 401 and not 500."""
    token = sealed(b'{"alg":"HS256"}', payload)
    assert await refusal(verifier(), token) is Code.TOKEN_INVALID


HOSTILE_HEADERS = [
    b"{}",
    b"[]",
    b'{"alg": 7}',
    b'{"alg": ["HS256"]}',
    b'{"alg": "HS256", "kid": 7}',
    b'{"alg": "HS256", "crit": ["x"], "x": 1}',
    b'{"alg": "HS256", "b64": false, "crit": ["b64"]}',
    b'{"alg": "none", "alg": "RS256"}',
    b"\xff",
    b"[" * 4000,
]


@pytest.mark.parametrize("header", HOSTILE_HEADERS, ids=lambda p: repr(p[:24]))
async def test_hostile_headers_are_invalid(header: bytes) -> None:
    """The header is read before the signature, so anybody can write it."""
    token = sealed(header, b'{"sub":"anna"}')
    assert await refusal(verifier(), token) is Code.TOKEN_INVALID


async def test_an_oversized_token_is_refused_even_with_a_good_signature() -> None:
    """Bounded: the cost of a refusal must not grow with what was sent."""
    header, claims = b'{"alg":"HS256"}', b'{"sub":"anna","x":"%s"}'
    fits = sealed(header, claims % (b"x" * 6000))
    assert len(fits) <= TOKEN_LIMIT
    assert (await verifier().verify(fits)).account == "anna"
    assert await refusal(verifier(), sealed(header, claims % (b"x" * 6200))) is Code.TOKEN_INVALID


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b", "a.b.c.d", "\ud800.a.b", "é.a.b", "a.b.c\n"]
)
async def test_garbage_is_invalid(text: str) -> None:
    """Found by hand: the forms next to a token that a parser could stumble over."""
    assert await refusal(verifier(), text) is Code.TOKEN_INVALID


async def test_the_cache_is_bounded_and_drops_the_oldest() -> None:
    """A flood of good tokens must not fill the memory."""
    checked = verifier()
    tokens = [signed(n=n) for n in range(CACHE_LIMIT + 1)]
    for token in tokens:
        await checked.verify(token)
    assert checked.cached(tokens[0]) is None
    assert checked.cached(tokens[1]) is not None
    assert checked.cached(tokens[-1]) is not None


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ",
        '{"kty": "RSA", "n": "AQABAQABAQABAQABAQAB", "e": "AQAB"}',
    ],
)
def test_a_secret_that_is_public_or_short_stops_the_start(secret: str) -> None:
    """With a public key as the secret everybody could sign: key confusion by configuration."""
    with pytest.raises(SettingsError, match="SYNCLINE_JWT_SECRET"):
        Verifier(Settings(), secret, FakeClock(), no_fetch)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
VALID = mint(SECRET, "anna", ttl_s=3600, now_ms=NOW_S * 1000)


@given(st.integers(0, len(VALID) - 1), st.sampled_from(ALPHABET + "=.+/ \0é"))
@settings(max_examples=1000, deadline=None)
async def test_no_token_with_one_other_character_verifies(position: int, character: str) -> None:
    """Any flip, in any segment, must fail.

    Also in the unused bits of a segment's last character, which decode to the same bytes:
    PyJWT 2.15 accepts the canonical form only, so one token has one text.
    """
    if VALID[position] == character:
        return
    changed = VALID[:position] + character + VALID[position + 1 :]
    assert await refusal(verifier(), changed) is Code.TOKEN_INVALID


async def test_every_other_last_character_of_each_segment_is_refused() -> None:
    """The unused trailing bits, exhaustively, and the padded form: random draws may miss them."""
    segments = VALID.split(".")
    for index, segment in enumerate(segments):
        for last in [*ALPHABET, segment[-1] + "=", segment[-1] + "=="]:
            changed = [*segments[:index], segment[:-1] + last, *segments[index + 1 :]]
            if changed != segments:
                assert await refusal(verifier(), ".".join(changed)) is Code.TOKEN_INVALID


TEXT = st.text(st.integers(0, 0x10FFFF).map(chr), max_size=60)  # lone surrogates too
SEGMENT = st.binary(max_size=80).map(lambda b: base64.urlsafe_b64encode(b).decode().rstrip("="))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
HEADER = st.fixed_dictionaries(
    {"alg": st.sampled_from(["HS256", "RS256", "none"]) | JSON},
    optional={"kid": JSON, "crit": JSON, "b64": JSON, "jwk": JSON},
).map(lambda h: base64.urlsafe_b64encode(json.dumps(h).encode()).decode().rstrip("="))


@given(TEXT | st.tuples(SEGMENT | HEADER, SEGMENT, SEGMENT).map(".".join))
@settings(max_examples=500, deadline=None)
async def test_random_text_is_refused_in_order(text: str) -> None:
    """Whatever arrives, the answer is our own error: never another exception, never a pass."""
    assert await refusal(verifier(), text) is Code.TOKEN_INVALID


@given(
    st.fixed_dictionaries(
        {}, optional={name: JSON for name in ("sub", "exp", "nbf", "iat", "iss", "aud", "jti")}
    )
)
@settings(max_examples=500, deadline=None)
async def test_random_signed_claims_give_a_sound_principal_or_our_error(
    claims: dict[str, Any],
) -> None:
    """A good signature over any claims: no accident, and no account that storage refuses."""
    token = sealed(b'{"alg":"HS256"}', json.dumps(claims).encode())
    checked = verifier()
    try:
        principal = await checked.verify(token)
    except SynclineError:
        refused = await refusal(checked, token)
        assert refused in (Code.TOKEN_INVALID, Code.TOKEN_EXPIRED)
    else:
        assert principal.account == claims["sub"]
        assert 1 <= len(principal.account.encode()) <= 512
