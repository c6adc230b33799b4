"""The OpenAPI document: valid, whole, and true."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from jsonschema import Draft202012Validator
from litestar.routes import HTTPRoute

from app import openapi
from app.errors import Code
from app.problems import STATUS
from tests.documents.api import operate, patch, path, put, version
from tests.documents.contract import CheckedService

METHODS = {"get", "head", "put", "patch", "post", "delete"}


@pytest.fixture
def document(service: CheckedService) -> dict[str, Any]:
    return service.contract.document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for address, methods in document["paths"].items():
        for method, operation in methods.items():
            yield address, method, operation


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    """Every schema of the document, wherever it stands."""
    if isinstance(node, dict):
        if "schema" in node:
            yield node["schema"]
        for inside in node.values():
            yield from schemas(inside)
    elif isinstance(node, list):
        for inside in node:
            yield from schemas(inside)


def test_every_route_is_described(service: CheckedService, document: dict[str, Any]) -> None:
    """A route that nobody described would be an API that no client generator knows."""
    routed = {
        (route.path_format, method.lower())
        for route in service.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }
    assert {(address, method) for address, method, _ in operations(document)} == routed


def test_the_document_has_the_shape_of_openapi_3_1(document: dict[str, Any]) -> None:
    """Generators of clients refuse what is not valid, or worse, guess."""
    assert document["openapi"] == "3.1.0"
    assert set(document) <= {"openapi", "info", "paths", "components", "security", "tags"}
    assert {"title", "version"} <= set(document["info"])
    names = [operation["operationId"] for *_, operation in operations(document)]
    assert len(names) == len(set(names))
    for address, method, operation in operations(document):
        assert method in METHODS
        assert re.fullmatch(r"[a-z]+(_[A-Za-z0-9]+)+", operation["operationId"])
        assert operation["summary"]
        parameters = operation["parameters"]
        placed = [(one["in"], one["name"]) for one in parameters]
        assert len(placed) == len(set(placed))
        in_path = {one["name"] for one in parameters if one["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", address))
        assert all(one["required"] for one in parameters if one["in"] == "path")
        assert operation["responses"]
        for status, answer in operation["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status)
            assert answer["description"]
        assert ("security" in operation) == address.startswith("/v1/")
    for scheme in document["components"]["securitySchemes"].values():
        assert scheme["type"] == "http"


def test_every_schema_is_valid_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    """OpenAPI 3.1 schemas are JSON Schema 2020-12, and are checked as such."""
    components = document["components"]["schemas"]
    found = [*schemas(document["paths"]), *components.values()]
    assert len(found) > 50
    for schema in found:
        Draft202012Validator.check_schema(schema)
    text = str(document)
    references = set(re.findall(r"'\$ref': '([^']+)'", text))
    assert references == {f"#/components/schemas/{name}" for name in components}
    patterns = set(re.findall(r"'pattern': '([^']+)'", text))
    assert patterns
    assert not [one for one in patterns if r"\Z" in one], "ECMAScript has no \\Z"


def test_every_code_that_can_be_met_is_described(document: dict[str, Any]) -> None:
    """Each code stands with some operation, under its own status or as what an item may meet."""
    met = {
        (code, STATUS[Code(code)] if status == "200" else int(status))
        for *_, operation in operations(document)
        for status, answer in operation["responses"].items()
        for code in re.findall(r"`([a-z-]+)`", answer["description"])
    }
    unmet = {Code.NOT_FOUND, Code.METHOD_NOT_ALLOWED, Code.HEADERS_TOO_LARGE}
    assert met == {(code.value, STATUS[code]) for code in Code if code not in unmet}
    named = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert named == sorted(code.value for code in Code)


def test_the_document_is_built_the_same_each_time(service: CheckedService) -> None:
    """A document that changes by itself cannot be compared from release to release."""
    assert openapi.build(service.app.routes) == openapi.build(service.app.routes)
    assert httpx.get(f"{service.url}/openapi.json").content == openapi.build(service.app.routes)


def test_the_answers_of_operations(service: CheckedService) -> None:
    """What machines ask a service is described as truly as what apps ask it."""
    with service.client() as client:
        for address in ("/livez", "/readyz", "/health", "/metrics", "/docs", "/docs/live"):
            assert client.get(address).status_code == 200
        for address in ("/openapi.json", "/asyncapi.json"):
            assert client.get(address).headers["content-type"] == "application/json"
        assert client.get("/docs").headers["content-type"].startswith("text/html")
        assert client.post("/v1/sync", json={}).status_code == 200


def test_the_truth_was_tested_all_round(service: CheckedService) -> None:
    """Every answer of documents that is no failure of the service is met, and so checked, here."""
    one = path("k")
    with service.client() as client:
        stranger = service.client()
        del stranger.headers["authorization"]
        for method, address in (
            ("GET", "/v1/documents"), ("GET", one), ("HEAD", one), ("PUT", one), ("PATCH", one),
            ("DELETE", one), ("GET", one + "/revisions"), ("GET", one + "/revisions/1"),
            ("HEAD", "/v1/documents"), ("HEAD", one + "/revisions"),
            ("HEAD", one + "/revisions/1"), ("POST", one + "/revisions/1/restore"),
        ):  # fmt: skip
            stranger.request(method, address)
            client.request(method, address)  # missing
            client.request(method, address + "?wrong=1")
        put(client, "k", {"a": 1})
        put(client, "k", {"a": 2}, base=1)
        put(client, "game_stats", {"games_played": 1}, base=0, device="a")
        put(client, "game_stats", {"games_played": 2}, device="a")
        put(client, "game_stats", {"score": "x"})
        for method in ("GET", "HEAD"):
            client.request(method, one)
            client.request(method, one, headers={"If-None-Match": "*"})
        for method in ("GET", "HEAD"):
            client.request(method, "/v1/documents")
            client.request(method, one + "/revisions")
            client.request(method, one + "/revisions/1")
        patch(client, "k", set={"a": 3})
        patch(client, "new", set={"a": 3})
        operate(client, "k", ("add", "/a", 1))
        client.post(one + "/revisions/1/restore")
        for method, address, body in (
            ("PUT", one, {"value": 1}),
            ("PATCH", one, {"id": str(uuid4())}),
            ("DELETE", one, None),
            ("POST", one + "/revisions/1/restore", None),
        ):
            client.request(method, address, json=body, headers={"If-Match": '"999"'})
        used = str(uuid4())
        put(client, "k", 9, id=used)
        client.delete(one, params={"id": used})
        client.post(one + "/revisions/1/restore", json={"id": used})
        client.delete(one)
        for method in ("GET", "HEAD"):
            client.request(method, one)
        gone = version(client, "k")
        client.post(one + "/revisions/1/restore")
        client.post(f"{one}/revisions/{gone}/restore")
        operate(client, "missing", ("unset", "/a"))
        for method, address, body in (
            ("PUT", path("totals"), {"value": 1}),
            ("PATCH", path("totals"), {"id": str(uuid4())}),
            ("DELETE", path("totals"), None),
            ("POST", path("totals") + "/revisions/1/restore", None),
        ):
            client.request(method, address, json=body)
        large = b" " * (8 * 1024 * 1024 + 1)
        for method, address in (
            ("PUT", one), ("PATCH", one), ("POST", one + "/revisions/1/restore"),
        ):  # fmt: skip
            client.request(method, address, content=large)
            client.request(method, address, content=b"", headers={"Content-Encoding": "gzip"})
    promised = {
        (method.upper(), address, int(status))
        for address, method, operation in operations(service.contract.document)
        for status in operation["responses"]
        if address.startswith("/v1/documents") and int(status) < 500
    }
    unmet = promised - service.contract.checked
    # A rule that fails to explain a revision, and one that was changed: test_rules.py and
    # test_changed_rules.py.
    assert unmet == {
        ("GET", "/v1/documents/{key}/revisions/{version}", 422),
        ("HEAD", "/v1/documents/{key}/revisions/{version}", 422),
        ("PATCH", "/v1/documents/{key}", 409),
    }


def test_parameters_say_what_the_service_takes(document: dict[str, Any], client: Any) -> None:
    """A pattern in the document that the service does not keep to is worse than none."""
    operation = document["paths"]["/v1/documents/{key}"]["get"]
    (schema,) = (one["schema"] for one in operation["parameters"] if one["name"] == "key")
    validator = Draft202012Validator(schema)
    for key in ("a", "a" * 128, "a" * 129, "a b", "é", "~.:_-", "A*"):
        taken = client.get(path(quote(key))).status_code == 404
        assert validator.is_valid(key) == taken, key


def test_a_patch_needs_an_id_in_the_document_too(document: dict[str, Any]) -> None:
    """A generated client left it out, and met 422 `id-required` with each patch."""
    schema = document["components"]["schemas"]["PatchDocument"]
    assert "id" in schema["required"]
    assert schema["properties"]["id"]["format"] == "uuid"


def test_the_mutations_of_a_sync_are_described(document: dict[str, Any]) -> None:
    """They are decoded one by one, which must not hide from a generator what they hold."""
    items = document["components"]["schemas"]["SyncRequest"]["properties"]["mutations"]["items"]
    assert items == {"$ref": "#/components/schemas/MutationBody"}
    mutation = document["components"]["schemas"]["MutationBody"]
    assert mutation["properties"]["op"]["enum"] == ["delete", "patch", "put"]


def test_the_headers_that_come_with_an_answer_are_described(document: dict[str, Any]) -> None:
    """A client has to know where the waiting time stands, and which headers may be missing."""
    responses = document["paths"]["/v1/documents/{key}"]["put"]["responses"]
    assert responses["503"]["headers"]["Retry-After"]["required"]
    assert responses["401"]["headers"]["WWW-Authenticate"]["required"]
    assert responses["200"]["headers"]["ETag"]["required"]
    assert not responses["200"]["headers"]["Preference-Applied"]["required"]
