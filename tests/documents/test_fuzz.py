"""Whatever is sent, the answer is never a 5xx, and what was accepted is read back exactly."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from merge_rules.canonical import parse
from tests.documents.api import path
from tests.documents.contract import CheckedService

# Each example is a round trip to a real service, and hostile bodies are meant to be large.
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
RECORDS = ("game_stats", "lesson_progress", "settings", "user_stats", "lesson:1")

texts = st.text(max_size=8) | st.text(st.characters(), max_size=3)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) - 2, 2**53 + 2)
    | st.integers()
    | st.floats()
    | texts
)
names = texts | st.sampled_from(
    ["score", "games_played", "best_scores", "completed", "ai_themes", "xp", "is_completed", "a"]
)
values = st.recursive(
    scalars,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(names, inside, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(names, scalars | st.dictionaries(names, scalars, max_size=3))
keys = st.sampled_from(["plain", *RECORDS])
operation_names = st.sampled_from(
    ["set", "unset", "increment", "maximum", "minimum", "add", "remove", "reset"]
)
paths = st.lists(names, max_size=3).map(
    lambda tokens: "".join("/" + one.replace("~", "~0").replace("/", "~1") for one in tokens)
)
operations = st.fixed_dictionaries(
    {"op": operation_names, "path": paths | texts}, optional={"value": values}
)


class Wire(msgspec.Struct):
    value: msgspec.Raw
    version: int


@pytest.fixture(scope="module")
def fuzzed(service: CheckedService) -> httpx.Client:
    return service.client()


def text_of(body: Any) -> bytes:
    """JSON as a careless client writes it: NaN, lone surrogates and all."""
    return json.dumps(body).encode()


def stored(client: httpx.Client, key: str) -> Wire | None:
    answer = client.get(path(key))
    return msgspec.json.decode(answer.content, type=Wire) if answer.status_code == 200 else None


def check(client: httpx.Client, key: str, before: Wire | None, answer: httpx.Response) -> None:
    """Never a 5xx; what was refused changed nothing; what is stored is canonical."""
    assert answer.status_code < 500, answer.text
    after = stored(client, key)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (before and before.version) == (after and after.version)
        return
    told = msgspec.json.decode(answer.content, type=Wire)
    if after is None:
        assert bytes(told.value) == b"null"
        return
    assert bytes(after.value) == bytes(told.value)
    assert parse(bytes(after.value))[1] == bytes(after.value)
    assert b"\\u0000" not in bytes(after.value)


@given(value=values)
@example(value=-0.0)
@example(value="\ud800")
@example(value={"\0": 1})
@example(value=1e16)
@FUZZ
def test_any_value_is_read_back_or_refused(fuzzed: httpx.Client, value: Any) -> None:
    """An accepted value comes back as the same canonical bytes, whatever it was."""
    before = stored(fuzzed, "whole")
    body = text_of({"value": value})
    answer = fuzzed.put(path("whole"), content=body)
    check(fuzzed, "whole", before, answer)
    if answer.is_success:
        after = stored(fuzzed, "whole")
        assert after is not None
        assert bytes(after.value) == parse(text_of(value))[1]


@given(key=keys, value=documents | values, base=st.none() | st.integers(-1, 50), base_value=values)
@FUZZ
def test_any_document_under_any_rule(
    fuzzed: httpx.Client, key: str, value: Any, base: int | None, base_value: Any
) -> None:
    """Rules meet values that nobody wrote them for, on bases right and wrong."""
    before = stored(fuzzed, key)
    body = {"value": value, "base": base, "base_value": base_value, "device": "a"}
    answer = fuzzed.put(path(key), content=text_of(body), params={"receipt": "true"})
    check(fuzzed, key, before, answer)


@given(
    key=keys,
    delta=st.dictionaries(names, values, max_size=2),
    fields=st.dictionaries(names, values, max_size=2),
    many=st.lists(operations, max_size=3),
    base=st.none() | st.integers(0, 5),
)
@FUZZ
def test_any_operations(
    fuzzed: httpx.Client, key: str, delta: Any, fields: Any, many: Any, base: int | None
) -> None:
    """Operations in any order on any rule, with any path and any operand."""
    before = stored(fuzzed, key)
    body = {
        "id": str(uuid4()), "device": "a", "base": base,
        "delta": delta, "set": fields, "operations": many,
    }  # fmt: skip
    answer = fuzzed.patch(path(key), content=text_of(body), params={"receipt": "true"})
    check(fuzzed, key, before, answer)


@given(
    method=st.sampled_from(["PUT", "PATCH"]),
    body=st.binary(max_size=60)
    | st.builds(
        lambda inside, end: b'{"id": "%s", "value": ' % str(uuid4()).encode() + inside + end,
        st.binary(max_size=12),
        st.sampled_from([b"}", b"", b'"}', b"]}"]),
    ),
)
@FUZZ
def test_any_bytes(fuzzed: httpx.Client, method: str, body: bytes) -> None:
    """A body may be anything at all."""
    before = stored(fuzzed, "bytes")
    check(fuzzed, "bytes", before, fuzzed.request(method, path("bytes"), content=body))


@given(method=st.sampled_from(["PUT", "PATCH"]), body=values)
@FUZZ
def test_any_json_as_the_body(fuzzed: httpx.Client, method: str, body: Any) -> None:
    """JSON of any shape where a request should be."""
    before = stored(fuzzed, "shape")
    check(fuzzed, "shape", before, fuzzed.request(method, path("shape"), content=text_of(body)))


@given(key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8) | st.from_regex(
    r"[A-Za-z0-9._:~-]{1,130}", fullmatch=True))  # fmt: skip
@FUZZ
def test_any_key(fuzzed: httpx.Client, key: str) -> None:
    """A key is taken if it is one, and refused if not; none leads anywhere else."""
    encoded = "".join(f"%{byte:02X}" for byte in key.encode())
    answer = fuzzed.put(path(encoded), json={"value": {}})
    plain = all(character.isascii() for character in key) and quote(key, safe=":~") == key
    if plain and len(key) <= 128:
        assert answer.status_code in (200, 201), (key, answer.text)
        assert answer.json()["key"] == key
    else:
        assert answer.status_code in (400, 404, 405), (key, answer.text)


@given(
    method=st.sampled_from(["GET", "PUT", "PATCH", "DELETE"]),
    name=st.sampled_from(["If-Match", "If-None-Match", "Prefer"]),
    header=st.text(
        st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12
    ).map(str.strip)
    | st.from_regex(r'(W/)?"[0-9]{0,30}"', fullmatch=True),
)
@FUZZ
def test_any_conditional_header(fuzzed: httpx.Client, method: str, name: str, header: str) -> None:
    """Headers are a stranger's text as well."""
    body = {"PUT": {"value": 1}, "PATCH": {"id": str(uuid4()), "set": {"a": 1}}}.get(method)
    headers = [(name.encode(), header.encode("latin-1"))]
    answer = fuzzed.request(method, path("headers"), json=body, headers=headers)
    assert answer.status_code < 500, answer.text


@given(query=st.dictionaries(st.sampled_from(["base", "device", "id", "x"]), texts, max_size=3))
@FUZZ
def test_any_query(fuzzed: httpx.Client, query: dict[str, str]) -> None:
    """And so are queries."""
    cleaned = {name: text.encode("utf-8", "surrogatepass") for name, text in query.items()}
    parts = "&".join(f"{name}={quote(text)}" for name, text in cleaned.items())
    answer = fuzzed.delete(f"{path('queries')}?{parts}")
    assert answer.status_code in (400, 404), answer.text
