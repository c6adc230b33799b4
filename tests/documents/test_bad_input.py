"""Bad input: each a 4xx problem document, after which everything is as it was."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.auth.tokens import mint
from app.clock import system_clock
from tests.conftest import SECRET
from tests.documents.api import path, put, refused, value, version
from tests.documents.contract import CheckedService

BIG = 2**53
PLAIN = {"n": 1}
GAME = {"score": 1, "games_played": 1}


@pytest.fixture
def untouched(client: httpx.Client) -> Iterator[httpx.Client]:
    """A client with two documents, which nothing in the test may change."""
    put(client, "plain", PLAIN, base=0, device="a")
    put(client, "game_stats", GAME, base=0, device="a")
    yield client
    assert (version(client, "plain"), value(client, "plain")) == (1, PLAIN)
    assert (version(client, "game_stats"), value(client, "game_stats")) == (1, GAME)
    assert len(client.get("/v1/documents").json()["documents"]) == 2


def patch_body(**fields: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), **fields}


# --- the envelope --------------------------------------------------------------------------------

WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"vlaue": 1}, ""),
    ({"extra": {"a": [1]}}, ""),
    ({"base": -1}, "base"),
    ({"base": 1.5}, "base"),
    ({"base": "1"}, "base"),
    ({"base": True}, "base"),
    ({"base": [1]}, "base"),
    ({"base": BIG}, "base"),
    ({"base": 10**30}, "base"),
    ({"id": "not-a-uuid"}, "id"),
    ({"id": ""}, "id"),
    ({"id": 7}, "id"),
    ({"id": "0199aaaa-0000-7000-8000-00000000000"}, "id"),
    ({"device": ""}, "device"),
    ({"device": "a b"}, "device"),
    ({"device": "a\n"}, "device"),
    ({"device": "é"}, "device"),
    ({"device": "a" * 65}, "device"),
    ({"device": 1}, "device"),
    ({"edited_at": "now"}, "edited_at"),
    ({"edited_at": 1.5}, "edited_at"),
    ({"edited_at": False}, "edited_at"),
    ({"sent_at": "now"}, "sent_at"),
    ({"sent_at": {}}, "sent_at"),
]


@pytest.mark.parametrize(("fields", "where"), WRONG_FIELDS)
def test_wrong_fields(untouched: httpx.Client, fields: dict[str, Any], where: str) -> None:
    """A field that is not understood is never dropped: its sender meant something by it."""
    for method, body in (("PUT", {"value": {"n": 2}}), ("PATCH", patch_body(set={"n": 2}))):
        problem = refused(
            untouched.request(method, path("plain"), json=body | fields), 400, "invalid-request"
        )
        assert problem.get("path") == (f"$.{where}" if where else None)
    if set(fields) <= {"id", "device", "extra"}:
        answer = untouched.post(path("plain") + "/revisions/1/restore", json=fields)
        refused(answer, 400, "invalid-request")


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"value": 1}, ""),
        ({"delta": []}, "delta"),
        ({"set": None}, "set"),
        ({"set": "n"}, "set"),
        ({"operations": {}}, "operations"),
        ({"operations": [1]}, "operations[0]"),
        ({"operations": [{}]}, "operations[0]"),
        ({"operations": [{"op": "set", "path": "/n", "value": 2}, {"op": "put"}]},
         "operations[1].op"),
        ({"operations": [{"op": "set", "path": ["n"], "value": 2}]}, "operations[0].path"),
        ({"operations": [{"op": "set", "path": "/n", "value": 2, "from": "/a"}]},
         "operations[0]"),
    ],
)  # fmt: skip
def test_wrong_operations(untouched: httpx.Client, fields: dict[str, Any], where: str) -> None:
    """The operation at fault is named by its place in the list."""
    answer = untouched.patch(path("plain"), json=patch_body(**fields))
    problem = refused(answer, 400, "invalid-request")
    assert problem.get("path") == (f"$.{where}" if where else None)


def test_a_put_needs_a_value(untouched: httpx.Client) -> None:
    """A body without a value must not be taken for the value null."""
    for body in ({}, {"base": 1}, {"base_value": 1}):
        refused(untouched.put(path("plain"), json=body), 400, "invalid-request")


NOT_JSON = [
    b"",
    b" ",
    b"nonsense",
    b"{",
    b'{"value": 1',
    b'{"value": 1}}',
    b'{"value": 1} x',
    b"{'value': 1}",
    b'{"value": 01}',
    b'{"value": nul}',
    b'{"value": [1,]}',
    b'{"value": 1,}',
    b'{"value": "\x01"}',
    b'{"value": "\\x"}',
    b'\xef\xbb\xbf{"value": 1}',
    b'{"value": "\xff"}',
    b'{"value": {"\xc3\x28": 1}}',
    b'{"value": "\xed\xa0\x80"}',
    b'{"device": "\xff", "value": 1}',
    b'{"\xff": 1, "value": 1}',
    '{"value": 1}'.encode("utf-16"),
    b'{"value": NaN}',
    b'{"value": Infinity}',
    b'{"value": [-Infinity]}',
    b'{"value": /* no */ 1}',
]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:30]))
def test_bodies_that_are_not_json(untouched: httpx.Client, body: bytes) -> None:
    """Whatever is no JSON text in UTF-8 is refused as such, and never guessed at."""
    refused(untouched.put(path("plain"), content=body), 400, "malformed-json")
    patch = body.replace(b'"value"', b'"id": "%s", "set"' % str(uuid4()).encode())
    answer = untouched.patch(path("plain"), content=patch)
    refused(answer, 400, answer.json()["code"])
    if body.strip():
        answer = untouched.post(path("plain") + "/revisions/1/restore", content=body)
        refused(answer, 400, answer.json()["code"])


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null", b"true", b'[{"value": 1}]'])
def test_bodies_that_are_no_object(untouched: httpx.Client, body: bytes) -> None:
    """JSON of another shape is a wrong request, not wrong JSON."""
    for method in ("PUT", "PATCH"):
        answer = untouched.request(method, path("plain"), content=body)
        refused(answer, 400, "invalid-request")


# --- values --------------------------------------------------------------------------------------


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize("levels", [33, 40, 41, 10_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_values_that_are_too_deep(
    untouched: httpx.Client, levels: int, opening: str, closing: str
) -> None:
    """Recursion on what a stranger sent must not bring the process down."""
    deep = nested(levels, opening, closing)
    bodies = [
        ("PUT", f'{{"value": {deep}}}'),
        ("PUT", f'{{"value": 1, "base_value": {deep}}}'),
        ("PUT", f'{{"value": 1, "base": {deep}}}'),
        ("PUT", f'{{"value": 1, "unknown": {deep}}}'),
        ("PATCH", f'{{"id": "{uuid4()}", "set": {{"a": {deep}}}}}'),
        ("PATCH", f'{{"id": "{uuid4()}", "delta": {{"a": {deep}}}}}'),
        ("PATCH", f'{{"id": "{uuid4()}", "operations": {deep}}}'),
    ]
    for method, body in bodies:
        answer = untouched.request(method, path("plain"), content=body)
        assert answer.status_code in (400, 422), answer.text
        refused(answer, answer.status_code, answer.json()["code"])
    answer = untouched.put(path("plain"), content=bodies[0][1])
    refused(answer, 422, "invalid-value")
    # Without an end it is no JSON, however deep.
    endless = untouched.put(path("plain"), content='{"value": ' + opening * levels)
    refused(endless, 400, "malformed-json")


def test_the_greatest_depth(client: httpx.Client) -> None:
    """Thirty-two levels are promised, and brackets in a text are none."""
    for key, text in (("arrays", nested(32)), ("objects", nested(32, '{"a":', "}"))):
        assert client.put(path(key), content=f'{{"value": {text}}}').status_code == 201
    assert put(client, "text", "[{" * 50_000).status_code == 201


def test_operations_that_make_a_document_too_deep(client: httpx.Client) -> None:
    """The limit holds for what a document becomes, not only for what is sent."""
    client.put(path("k"), content='{{"value": {}}}'.format(nested(31, '{"a":', "}")))
    inside = "/a" * 31
    for value_, status in (([1], 200), ([[1]], 422)):
        body = patch_body(operations=[{"op": "set", "path": inside, "value": value_}])
        assert client.patch(path("k"), json=body).status_code == status
    body = patch_body(operations=[{"op": "add", "path": inside, "value": []}])
    refused(client.patch(path("k"), json=body), 422, "invalid-value")
    body = patch_body(operations=[{"op": "set", "path": "/b" * 33, "value": 1}])
    refused(client.patch(path("k"), json=body), 422, "invalid-operation")
    body = patch_body(operations=[{"op": "set", "path": "/b" * 50_000, "value": 1}])
    refused(client.patch(path("k"), json=body), 422, "invalid-operation")
    assert version(client, "k") == 2


UNFIT: list[tuple[str, str]] = [
    ('"a\\u0000b"', ""),
    ('{"x": ["\\u0000"]}', "/x/0"),
    ('{"a\\u0000": 1}', ""),
    (str(BIG), ""),
    (str(-BIG), ""),
    ('{"a": [1, {"b/c": 9007199254740993}]}', "/a/1/b~1c"),
    ("18446744073709551616", ""),
    ("9" * 300, ""),
    ("1e999", ""),
    ('{"a": -1e999}', ""),
    ("9" * 5000, ""),
    ('"\\ud800"', ""),
    ('["\\udc00x"]', "/0"),
    ('{"a": "\\ud800\\ud800"}', "/a"),
    ('{"a": "\\\\\\uD83D!"}', "/a"),
    ('{"\\ud800": 1}', ""),
    ('{"a": 1, "a": 1}', ""),
    ('{"x": {"a": 1, "\\u0061": 2}}', ""),
    ('[{"a": "\\"", "b": 1, "b": 2}]', ""),
]


@pytest.mark.parametrize(("text", "where"), UNFIT)
def test_values_that_no_document_may_hold(untouched: httpx.Client, text: str, where: str) -> None:
    """What another language, or PostgreSQL, cannot hold exactly is refused, with its path."""
    answer = untouched.put(path("plain"), content=f'{{"value": {text}}}')
    problem = refused(answer, 422, "invalid-value")
    assert problem["path"] == where
    assert "byte" not in problem["detail"], "the decoder's words, which help nobody"
    for body in (
        f'{{"value": 1, "base_value": {text}}}',
    ):  # fmt: skip
        refused(untouched.put(path("plain"), content=body), 422, "invalid-value")
    for fields in (
        f'"set": {{"x": {text}}}',
        f'"delta": {{"x": {text}}}',
        f'"operations": [{{"op": "add", "path": "/x", "value": {text}}}]',
    ):
        body = f'{{"id": "{uuid4()}", {fields}}}'
        answer = untouched.patch(path("plain"), content=body)
        # In the document, not in the operand: of many operations one is at fault.
        assert refused(answer, 422, "invalid-value")["path"] == "/x" + where


def test_the_greatest_integers(client: httpx.Client) -> None:
    """Up to 2^53 - 1 every language has the same integers, so these are exact."""
    put(client, "k", [BIG - 1, 1 - BIG])
    assert value(client, "k") == [BIG - 1, 1 - BIG]


@pytest.mark.parametrize("name", ["\0", "a\0b"])
def test_names_in_operations_that_no_document_may_hold(untouched: httpx.Client, name: str) -> None:
    """A PATCH made object keys with \\u0000, which no PUT may: its names were not checked."""
    for fields in (
        {"set": {name: 1}},
        {"delta": {name: 1}},
        {"operations": [{"op": "set", "path": f"/{name}", "value": 1}]},
        {"operations": [{"op": "set", "path": f"/x/{name}/y", "value": 1}]},
        {"operations": [{"op": "unset", "path": f"/{name}"}]},
    ):
        for key in ("plain", "game_stats", "settings"):
            answer = untouched.patch(path(key), json=patch_body(**fields))
            refused(answer, 422, "invalid-value")


@pytest.mark.parametrize(
    "body",
    [
        '{"value": {"n": 2}, "value": {"n": 3}}',
        '{"value": {"n": 2}, "base": 1, "base": 1}',
        '{"value": {"n": 2}, "v\\u0061lue": {"n": 3}}',
        '{"value": "\\u0022\\u0022", "base": 1, "base": 1}',
        '{"value": 2, "edited_at": null, "edited_at": 5}',
    ],
)
def test_names_that_stand_twice_in_a_put(untouched: httpx.Client, body: str) -> None:
    """A decoder keeps the last of two in silence: the first write would be lost unseen."""
    refused(untouched.put(path("plain"), content=body), 400, "invalid-request")


@pytest.mark.parametrize(
    "fields",
    [
        '"delta": {"n": 1, "n": 2}',
        '"set": {"n": 1, "\\u006e": 2}',
        '"set": {"n": 1}, "set": {"n": 2}',
        '"operations": [{"op": "set", "op": "add", "path": "/n", "value": 1}]',
        '"operations": [{"op": "unset", "path": "/n", "path": "/\\u0022\\u0022"}]',
    ],
)
def test_names_that_stand_twice_in_a_patch(untouched: httpx.Client, fields: str) -> None:
    """Of two increments of one field the first was dropped, and acknowledged."""
    body = f'{{"id": "{uuid4()}", {fields}}}'
    refused(untouched.patch(path("plain"), content=body), 400, "invalid-request")


def test_what_only_looks_like_a_name_twice(client: httpx.Client) -> None:
    """Explicit nulls, quotes and escapes are not mistaken for a repeated name."""
    for number, body in enumerate(
        (
            '{"value": {"a": "\\"value\\"", "value": "\\u0022"}, "base": null, "device": null}',
            '{"value": [{"a": 1}, {"a": 1}], "id": null}',
            '{ "value" : "\\u0022value\\u0022", "base_value": {"value": 1} }',
        )
    ):
        answer = client.put(path(f"k{number}"), content=body)
        assert answer.status_code == 201, answer.text
    quoted = (
        f'{{"id": "{uuid4()}", "device": null, "set": {{"a\\"b": {{"set": 1}}, "\\u0022": 2}}}}'
    )
    assert client.patch(path("k"), content=quoted).status_code == 201
    assert value(client, "k") == {'a"b': {"set": 1}, '"': 2}


@pytest.mark.parametrize(
    ("key", "wrong", "where"),
    [
        ("game_stats", 1, ""),
        ("game_stats", [], ""),
        ("game_stats", None, ""),
        ("game_stats", {"score": "9"}, "/score"),
        ("game_stats", {"score": None}, "/score"),
        ("game_stats", {"score": True}, "/score"),
        ("game_stats", {"games_played": 1.0}, "/games_played"),
        ("game_stats", {"games_played": 1.5}, "/games_played"),
        ("game_stats", {"games_played": False}, "/games_played"),
        ("game_stats", {"games_played": "2"}, "/games_played"),
        ("game_stats", {"best_scores": []}, "/best_scores"),
        ("game_stats", {"best_scores": {"a/b~c": {}}}, "/best_scores/a~1b~0c"),
        ("lesson_progress", {"completed": {}}, "/completed"),
        ("lesson_progress", {"best_stars": {"l1": "three"}}, "/best_stars/l1"),
        ("settings", {"ai_themes": ["dark"]}, "/ai_themes"),
        ("user_stats", {"xp": 0.0}, "/xp"),
        ("lesson:1:2", {"is_completed": 1}, "/is_completed"),
        ("lesson:1:2", {"last_attempted": "today"}, "/last_attempted"),
    ],
)
def test_values_of_the_wrong_type_for_their_rule(
    untouched: httpx.Client, key: str, wrong: Any, where: str
) -> None:
    """Merged as far as it goes, half a document would be worse than none: it is refused whole."""
    body = {"value": wrong, "base": version(untouched, key), "device": "a"}
    problem = refused(untouched.put(path(key), json=body), 422, "wrong-type")
    assert problem["path"] == where
    if isinstance(wrong, dict):
        fields = {"score": 99, "ok": 1, **wrong}
        answer = untouched.patch(path(key), json=patch_body(device="a", set=fields))
        assert refused(answer, 422, "wrong-type")["path"] == where


def test_a_wrong_base_value(untouched: httpx.Client) -> None:
    """The inline base is a document as well, and held to the same rule."""
    body = {"value": {"games_played": 2}, "base_value": {"games_played": "1"}, "device": "b"}
    problem = refused(untouched.put(path("game_stats"), json=body), 422, "wrong-type")
    assert problem["path"] == "/games_played"


def test_a_count_that_no_number_can_hold(client: httpx.Client) -> None:
    """A sum past 2^53 - 1 is refused, or the next device could not read it back exactly."""
    put(client, "user_stats", {"xp": BIG - 1}, base=0, device="a")
    body = patch_body(device="a", delta={"xp": 1})
    refused(client.patch(path("user_stats"), json=body), 422, "wrong-type")
    assert value(client, "user_stats") == {"xp": BIG - 1}


# --- queries, headers, addresses -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "address", "query"),
    [
        ("PUT", "", "recept=true"),
        ("PUT", "", "receipt=maybe"),
        ("PUT", "", "receipt="),
        ("PUT", "", "base=1"),
        ("PATCH", "", "receipt=2"),
        ("DELETE", "", "receipt=true"),
        ("DELETE", "", "base=-1"),
        ("DELETE", "", "base=1.5"),
        ("DELETE", "", "base=x"),
        ("DELETE", "", "base="),
        ("DELETE", "", f"base={BIG}"),
        ("DELETE", "", "base=" + "9" * 5000),
        ("DELETE", "", "device="),
        ("DELETE", "", "device=a%20b"),
        ("DELETE", "", "device=%FF"),
        ("DELETE", "", "device=%00"),
        ("DELETE", "", "id=7"),
        ("DELETE", "", "%FF=1"),
        ("GET", "", "receipt=true"),
        ("GET", "/revisions", "limit=1"),
        ("GET", "/revisions/1", "receipt=yes"),
        ("POST", "/revisions/1/restore", "id=0199aaaa-0000-7000-8000-000000000000"),
    ],
)
def test_wrong_queries(untouched: httpx.Client, method: str, address: str, query: str) -> None:
    """A parameter that is not understood is refused as a field is: dropping it would be a guess."""
    body = {"PUT": {"value": 2}, "PATCH": patch_body(set={"n": 2})}.get(method)
    answer = untouched.request(method, f"{path('plain')}{address}?{query}", json=body)
    refused(answer, 400, "invalid-request")
    refused(untouched.get("/v1/documents?limit=1"), 400, "invalid-request")


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("POST", "/v1/documents/k", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("PROPFIND", "/v1/documents/k", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("PUT", "/v1/documents", {"GET", "HEAD"}),
        ("DELETE", "/v1/documents/k/revisions", {"GET", "HEAD"}),
        ("PUT", "/v1/documents/k/revisions/1", {"GET", "HEAD"}),
        ("GET", "/v1/documents/k/revisions/1/restore", {"POST"}),
        ("GET", "/v1/sync", {"POST"}),
        ("POST", "/livez", {"GET", "HEAD"}),
    ],
)
def test_methods_that_an_address_does_not_take(
    client: httpx.Client, method: str, address: str, allowed: set[str]
) -> None:
    """A 405 says in `Allow` what would do (RFC 9110 15.5.6)."""
    answer = client.request(method, address)
    refused(answer, 405, "method-not-allowed")
    assert {one.strip() for one in answer.headers["allow"].split(",")} - {"OPTIONS"} == allowed


@pytest.mark.parametrize("address", ["/", "/v1", "/v1/nothing", "/v1/documents/k/nothing", "/v2"])
def test_unknown_addresses(client: httpx.Client, address: str) -> None:
    """Even where there is nothing, the answer is a problem document."""
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        refused(client.request(method, address), 404, "not-found")


# --- tokens --------------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/v1/documents"),
    ("GET", "/v1/documents/plain"),
    ("HEAD", "/v1/documents/plain"),
    ("PUT", "/v1/documents/plain"),
    ("PATCH", "/v1/documents/plain"),
    ("DELETE", "/v1/documents/plain"),
    ("GET", "/v1/documents/plain/revisions"),
    ("GET", "/v1/documents/plain/revisions/1"),
    ("POST", "/v1/documents/plain/revisions/1/restore"),
]


@pytest.mark.parametrize(("method", "address"), ROUTES)
def test_without_a_good_token_nothing_is_told_or_done(
    service: CheckedService, untouched: httpx.Client, method: str, address: str
) -> None:
    """Every route asks who is there first: no token, a forged, an expired and a maimed one."""
    good = untouched.headers["authorization"]
    stranger = service.client()
    del stranger.headers["authorization"]
    past = mint(SECRET, "x", ttl_s=60, now_ms=system_clock() - 3_600_000)
    forged = mint("another-secret-of-at-least-32-bytes", "x", ttl_s=60, now_ms=system_clock())
    for header, code in (
        (None, "token-missing"),
        ("", "token-invalid"),
        ("Bearer", "token-invalid"),
        ("Bearer x.y.z", "token-invalid"),
        (f"Bearer {forged}", "token-invalid"),
        (f"Bearer {past}", "token-expired"),
        (good[:-2], "token-invalid"),
        (good.replace("Bearer", "Basic"), "token-invalid"),
    ):
        headers = {} if header is None else {"Authorization": header}
        answer = stranger.request(method, address, headers=headers, content=b"not even JSON")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        if method == "HEAD":
            assert (answer.status_code, answer.content) == (401, b"")
        else:
            refused(answer, 401, code)


def test_a_problem_tells_nothing_of_the_inside(untouched: httpx.Client) -> None:
    """No traceback, no SQL, no file name reaches a stranger."""
    answers = [
        untouched.put(path("plain"), content=b"{"),
        untouched.put(path("'; drop table documents; --"), json={"value": 1}),
        untouched.get(path("plain") + "/revisions/'1'"),
    ]
    for answer in answers:
        text = answer.text.lower()
        assert not [word for word in ("traceback", ".py", "asyncpg", "select ") if word in text]


def test_a_service_is_copied_with_its_contract(service: CheckedService) -> None:
    """The checks of this folder are on: an answer that the document does not know is an error."""
    contract = replace(service.contract, document={"paths": {"/livez": {"get": {"responses": {}}}}})
    with service.client() as client:
        client.event_hooks = {"response": [contract.check]}
        with pytest.raises(AssertionError, match="not in the document"):
            client.get("/livez")
