"""Who may talk on a socket, and for how long."""

import secrets
from collections.abc import Callable

import pytest

from tests.conftest import Service
from tests.live.talk import opened, talking, token
from tests.sync.wire import put

Start = Callable[..., Service]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("", "token-invalid"),
        ("abc", "token-invalid"),
        (token("maja", secret="x" * 40), "token-invalid"),
        (token("maja", ttl_s=-10), "token-expired"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWphIn0.", "token-invalid"),
        ("x" * 9_000, "token-invalid"),
    ],
)
async def test_a_bad_token_closes_the_socket(service: Service, bad: str, reason: str) -> None:
    """A forged or expired token gets nothing but the reason."""
    async with opened(service.url) as talk:
        await talk.send("hello", token=bad, device="d1")
        assert await talk.closed() == (4401, reason)
        assert talk.frames == []


async def test_a_token_is_renewed_in_band(start_service: Start, account: str) -> None:
    """A socket that outlives its token need not be opened again."""
    service = start_service(live_reauth_s=2.0)
    async with opened(service.url) as talk:
        await talk.send("hello", token=token(account, ttl_s=3), device="d1")
        reauth = await talk.next("reauth")
        await talk.send("token", token=token(account))
        answer = await talk.next("authenticated")
        assert answer["expires_at"] > reauth["expires_at"] + 60_000
        assert [f for f in await talk.quiet(3.5) if f["type"] != "presence"] == []
        assert (await talk.push(put("a", 1)))["results"][0]["outcome"] == "applied"


async def test_a_token_that_lives_shortly_is_not_asked_for_at_once(
    start_service: Start, account: str
) -> None:
    """Client and service would do nothing but renew it, a second after the other."""
    service = start_service(live_reauth_s=60.0)
    async with opened(service.url) as talk:
        await talk.send("hello", token=token(account, ttl_s=10), device="d1")
        assert "reauth" not in [frame["type"] for frame in await talk.quiet(2.5)]
        await talk.next("reauth")


async def test_an_expired_token_closes_the_socket(start_service: Start, account: str) -> None:
    """Who signed out elsewhere must not go on listening here."""
    service = start_service(live_reauth_s=1.0)
    async with opened(service.url) as talk:
        await talk.send("hello", token=token(account, ttl_s=2), device="d1")
        assert await talk.closed() == (4401, "token-expired")
        assert "reauth" in [frame["type"] for frame in talk.frames]


async def test_a_token_that_never_expires_is_asked_for_again(
    start_service: Start, account: str
) -> None:
    """Its key may have been withdrawn since: a socket does not trust it for ever."""
    service = start_service(live_trust_s=2.0, live_reauth_s=1.0)
    async with talking(service.url, account) as talk:
        assert await talk.closed() == (4401, "token-expired")


async def test_a_token_of_another_account_closes_the_socket(service: Service, account: str) -> None:
    """A socket belongs to one account; nothing of another is ever sent on it."""
    async with talking(service.url, account) as talk:
        await talk.send("token", token=token(f"{account}-other"))
        assert await talk.closed() == (4403, "the token is of another account")


async def test_a_forged_renewal_closes_the_socket(service: Service, account: str) -> None:
    """Whoever got hold of a socket cannot keep it with a token of his own making."""
    async with talking(service.url, account) as talk:
        await talk.send("token", token=token(account, secret=secrets.token_hex(32)))
        assert await talk.closed() == (4401, "token-invalid")


async def test_a_token_stands_in_no_log(
    start_service: Start, account: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs are read by many, and kept for long."""
    service = start_service()
    forged = token(account, secret="y" * 40)
    async with talking(service.url, account) as talk:
        await talk.connection.send('{"type": "token", "token": ["' + forged + '"]}')
        await talk.next("problem")
        await talk.send("push", mutations=[{"token": forged}])
        await talk.next("problem")
        await talk.send("token", token=forged)
        await talk.closed()
    said = capfd.readouterr()
    assert forged not in said.out + said.err
    assert token(account) not in said.out + said.err
