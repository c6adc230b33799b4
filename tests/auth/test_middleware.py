"""Authentication in a real Litestar app: who gets in, and that refusals come out as problems."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.params import FromPath
from litestar.testing import TestClient

from app.auth.middleware import Authentication
from app.auth.tokens import Verifier, mint
from app.auth.types import Operator, Principal
from app.clock import system_clock
from app.errors import SynclineError
from app.problems import MEDIA_TYPE, STATUS, headers, render
from app.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"
ADMIN_TOKEN = "operator:0123456789abcdef0123456789abcdef"
PUBLIC = ["/livez", "/readyz", "/health", "/openapi.json", "/docs", "/", "/v10/x", "/V1/x"]


@get("/v1/documents/{key:str}", sync_to_thread=False)
def document(request: Request[Principal, None, Any], key: FromPath[str]) -> dict[str, str]:
    return {"account": request.user.account, "key": key}


@get("/v1", sync_to_thread=False)
def version(request: Request[Principal, None, Any]) -> dict[str, str]:
    return {"account": request.user.account}


@get(["/v1/admin", "/v1/admin/{what:str}"], sync_to_thread=False)
def administer(request: Request[Operator, None, Any]) -> dict[str, str]:
    return {"user": type(request.user).__name__, "account": getattr(request.user, "account", "")}


@get("/v1/administrators", sync_to_thread=False)
def administrators(request: Request[Principal, None, Any]) -> dict[str, str]:
    return {"account": request.user.account}


@post("/v1/broken", sync_to_thread=False)
def broken() -> None:
    raise AssertionError("reached without a token")


@get(PUBLIC, sync_to_thread=False)
def public(request: Request[Principal, None, Any]) -> dict[str, bool]:
    return {"user": "user" in request.scope}


@websocket("/v1/live")
async def live(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


def problem_response(_: Request[Any, Any, Any], error: SynclineError) -> Response[bytes]:
    return Response(
        render(error),
        status_code=STATUS[error.code],
        headers=headers(error),
        media_type=MEDIA_TYPE,
    )


async def no_fetch(url: str) -> bytes:
    raise AssertionError("HS256 needs no keys from elsewhere")


def build_app() -> Litestar:
    verifier = Verifier(Settings(), SECRET, system_clock, no_fetch)
    return Litestar(
        [document, version, administer, administrators, broken, public, live],
        middleware=[Authentication(verifier, ADMIN_TOKEN)],
        exception_handlers={SynclineError: problem_response},
        openapi_config=None,
    )


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    with TestClient(build_app()) as client:
        yield client


@pytest.fixture
def token() -> str:
    return mint(SECRET, "anna", ttl_s=60, now_ms=system_clock())


def test_a_good_token_gives_the_handler_its_principal(
    client: TestClient[Litestar], token: str
) -> None:
    """The way in; the second request is answered from the cache."""
    for _ in range(2):
        response = client.get("/v1/documents/k", headers={"Authorization": f"Bearer {token}"})
        assert (response.status_code, response.json()) == (200, {"account": "anna", "key": "k"})


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} "])
def test_the_scheme_is_read_as_the_rfc_says(
    client: TestClient[Litestar], token: str, form: str
) -> None:
    """RFC 9110 §11.4: scheme in any case, one or more spaces."""
    response = client.get("/v1/documents/k", headers={"Authorization": form.format(token)})
    assert response.status_code == 200


def test_no_token_is_a_problem_with_a_challenge(client: TestClient[Litestar]) -> None:
    """Raised in a middleware, it must still reach the app's exception handler."""
    response = client.get("/v1/documents/k")
    assert response.status_code == 401
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.headers["www-authenticate"] == 'Bearer realm="syncline"'
    assert response.json()["code"] == "token-missing"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YTpi",
        b"Bearer \xff\xfe",
        b"\xff",
        b"Bearer a b",
        b"Bearer\ta",
    ],
)
def test_garbage_is_token_invalid(client: TestClient[Litestar], value: bytes) -> None:
    """Any bytes may stand in a header; none may cause a 500."""
    response = client.get("/v1/documents/k", headers=[(b"authorization", value)])
    assert (response.status_code, response.json()["code"]) == (401, "token-invalid")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_an_expired_token_says_so(client: TestClient[Litestar]) -> None:
    """The client's refresh hangs on this code."""
    old = mint(SECRET, "anna", ttl_s=60, now_ms=system_clock() - 61_000)
    response = client.get("/v1/documents/k", headers={"Authorization": f"Bearer {old}"})
    assert (response.status_code, response.json()["code"]) == (401, "token-expired")
    assert old not in response.text


@pytest.mark.parametrize("path", PUBLIC)
def test_public_paths_ask_for_nothing(client: TestClient[Litestar], path: str) -> None:
    """Probes and documentation have no account, and a wrong token must not break them."""
    for given in ({}, {"Authorization": "Bearer nonsense"}):
        response = client.get(path, headers=given)
        assert (response.status_code, response.json()) == (200, {"user": False})


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/documents/k", "/v1/documents/k/", "/v1/admin", "/v1/admin/x/"]
)
def test_everything_below_v1_asks_for_a_token(client: TestClient[Litestar], path: str) -> None:
    """One forgotten path is an open door."""
    assert client.get(path).status_code == 401
    assert client.head(path).status_code in (401, 405)
    assert client.options(path).status_code == 401
    assert client.post("/v1/broken").status_code == 401


@pytest.mark.parametrize("path", ["/v1/admin", "/v1/admin/", "/v1/admin/x", "/v1/admin/x/"])
def test_the_operators_token_opens_the_admin_routes_and_is_nobody(
    client: TestClient[Litestar], path: str
) -> None:
    """An operator that counted as an account could write documents as one by mistake."""
    response = client.get(path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    assert (response.status_code, response.json()) == (200, {"user": "Operator", "account": ""})


def test_a_user_is_told_that_admin_routes_are_not_for_users(
    client: TestClient[Litestar], token: str
) -> None:
    """403 says that another token is needed; 401 would send an app to sign in again, for ever."""
    response = client.get("/v1/admin/x", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.json()["code"]) == (403, "admin-only")
    assert response.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize(
    "wrong",
    [ADMIN_TOKEN[:-1], ADMIN_TOKEN + "0", ADMIN_TOKEN.upper(), "", "x", SECRET, "x.y.z"],
)
def test_a_token_that_is_almost_the_operators_opens_nothing(
    client: TestClient[Litestar], wrong: str
) -> None:
    """A comparison of prefixes, or one that ignores case, would be an open door."""
    response = client.get("/v1/admin/x", headers={"Authorization": f"Bearer {wrong}"})
    assert (response.status_code, response.json()["code"]) == (401, "token-invalid")


def test_an_old_token_of_a_user_is_expired_on_admin_routes_too(
    client: TestClient[Litestar],
) -> None:
    """403 is for whoever has a good token; nobody else learns that the address is there."""
    old = mint(SECRET, "anna", ttl_s=60, now_ms=system_clock() - 61_000)
    response = client.get("/v1/admin/x", headers={"Authorization": f"Bearer {old}"})
    assert (response.status_code, response.json()["code"]) == (401, "token-expired")


@pytest.mark.parametrize("path", ["/v1", "/v1/documents/k", "/v1/administrators"])
def test_the_operators_token_is_no_users(
    client: TestClient[Litestar], token: str, path: str
) -> None:
    """It has no account; and an address that only begins alike is not an admin route."""
    response = client.get(path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    assert (response.status_code, response.json()["code"]) == (401, "token-invalid")
    assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_sockets_pass_without_a_header(client: TestClient[Litestar]) -> None:
    """Browsers cannot set headers on a socket; its token comes in the first frame."""
    with client.websocket_connect("/v1/live") as connection:
        assert connection.receive_text() == "hello"


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """The app behind a real server, for requests that no client library would send."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build_app(), log_level="warning", http="httptools", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()
    server.should_exit = True
    thread.join()
    listener.close()


def status_of(address: tuple[str, int], target: bytes, header: bytes = b"") -> int:
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(
            b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n" % (target, header)
        )
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "target",
    [
        b"//v1/documents/k",
        b"/v1//documents/k",
        b"///v1///documents///k//",
        b"/%76%31/documents/k",
        b"/v1%2fdocuments%2fk",
        b"/%2fv1/documents/k",
        b"http://x/v1/documents/k",
        b"/livez/../v1/documents/k",
        b"/v1/documents/k?/livez",
        b"//v1//admin//x",
        b"/v1/%61dmin/x",
        b"/v1/admin%2fx",
        b"/v1/documents/k#/livez",
        b"/./v1/documents/k",
    ],
)
def test_no_spelling_of_a_path_gets_around_the_token(
    address: tuple[str, int], target: bytes
) -> None:
    """The router tidies paths up; a check on the raw text would let `//v1/…` through."""
    assert status_of(address, target) in (401, 404)


def test_raw_bytes_in_the_header_are_refused_by_a_real_server(
    address: tuple[str, int], token: str
) -> None:
    """httpx tidies headers up; a real attacker does not."""
    target = b"/v1/documents/k"
    assert status_of(address, target, b"AUTHORIZATION: Bearer %s\r\n" % token.encode()) == 200
    assert status_of(address, target, b"Authorization: Bearer \xff\xc3\x28\r\n") == 401
    assert status_of(address, target, b"Authorization: Bearer %s\r\n" % (b"A" * 20_000)) == 401
    # The tidying is real: the odd path reaches the handler, so it must ask for the token.
    odd = b"//v1//documents/k"
    assert status_of(address, odd, b"Authorization: Bearer %s\r\n" % token.encode()) == 200
    assert status_of(address, odd, b"Authorization: Bearer x.y.z\r\n") == 401


def test_no_spelling_of_an_admin_path_takes_a_users_token(
    address: tuple[str, int], token: str
) -> None:
    """What the router tidies up is an admin route all the same."""
    users, operators = (
        b"Authorization: Bearer %s\r\n" % one.encode() for one in (token, ADMIN_TOKEN)
    )
    for target in (b"//v1//admin//x", b"/v1/%61dmin/x", b"/v1/admin/x/", b"/v1/admin%2fx"):
        assert status_of(address, target, users) == 403
        assert status_of(address, target, operators) == 200


def test_two_authorization_headers_are_refused(address: tuple[str, int], token: str) -> None:
    """A proxy before us may have checked the other one."""
    good, bad = b"Authorization: Bearer %s\r\n" % token.encode(), b"Authorization: Bearer x\r\n"
    for pair in (good + bad, bad + good, good + good):
        assert status_of(address, b"/v1/documents/k", pair) == 401
