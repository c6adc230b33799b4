"""The OpenAPI document, built from what each route says of itself.

A route carries a `Description` beside its handler: bodies and answers are msgspec structs, the
very ones that are decoded and encoded, so the document cannot drift from the code. Built here
and not by Litestar, because handlers read raw bodies: a value keeps its exact bytes, and is
checked for size and depth before a decoder sees it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import msgspec
from litestar.routes import BaseRoute, HTTPRoute

from app.errors import Code
from app.problems import MEDIA_TYPE, STATUS, TITLE

OPT = "description"
SCHEMAS = "#/components/schemas/{name}"
AUTHENTICATED = (Code.TOKEN_MISSING, Code.TOKEN_INVALID, Code.TOKEN_EXPIRED, Code.KEYS_UNAVAILABLE)
ADMIN = (*AUTHENTICATED, Code.ADMIN_ONLY)
ALWAYS = (Code.INTERNAL,)


@dataclass(frozen=True)
class Header:
    name: str
    meaning: str
    always: bool = True
    """Of an answer: whether each one has it."""


@dataclass(frozen=True)
class Description:
    """What a route takes and answers. An answer of None has no body."""

    summary: str
    answers: Mapping[int, type | None]
    body: type | None = None
    body_required: bool = True
    requires: tuple[str, ...] = ()
    """Members of the body that are optional to decode, and refused with a code where missing."""
    query: type | None = None
    problems: tuple[Code, ...] = ()
    item_problems: tuple[Code, ...] = ()
    """With which one item of the request may be refused while the others stand."""
    request_headers: tuple[Header, ...] = ()
    response_headers: tuple[Header, ...] = ()
    media_type: str = "application/json"
    parts: tuple[type, ...] = ()
    """Kinds to which the schema of the body refers, since it keeps them as text."""

    def opt(self) -> dict[str, Any]:
        return {OPT: self}


class Problem(msgspec.Struct):
    """RFC 9457. `code` is stable; `docs/reference/errors.md` says what to do about each."""

    type: str
    title: str
    status: int
    detail: str
    code: str


def build(routes: Iterable[BaseRoute]) -> bytes:
    """The document of all described routes, as JSON."""
    described = sorted(
        (
            (route.path_format, method.lower(), handler.opt[OPT])
            for route in routes
            if isinstance(route, HTTPRoute)
            for handler in route.route_handlers
            for method in handler.http_methods
            if OPT in handler.opt
        ),
        key=lambda entry: entry[:2],
    )
    kinds = [Problem, *(kind for *_, one in described for kind in _kinds(one))]
    _, schemas = msgspec.json.schema_components(dict.fromkeys(kinds), ref_template=SCHEMAS)
    schemas["Problem"]["additionalProperties"] = True
    schemas["Problem"]["properties"]["code"]["enum"] = sorted(Code)
    for *_, one in described:
        if one.body is not None and one.requires:
            _require(schemas[one.body.__name__], one.requires)
    paths: dict[str, dict[str, Any]] = {}
    for path, method, description in described:
        paths.setdefault(path, {})[method] = _operation(path, method, description)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Syncline",
            "version": version("syncline"),
            "description": "Documents that many devices edit offline, merged by named rules.",
        },
        "paths": paths,
        "components": {
            "schemas": portable(schemas),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "admin": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The operator's token: SYNCLINE_ADMIN_TOKEN",
                },
            },
        },
    }
    return msgspec.json.encode(document)


def _kinds(description: Description) -> list[type]:
    kinds = (description.body, *description.parts, *description.answers.values())
    return [kind for kind in kinds if kind is not None]


def _require(schema: dict[str, Any], names: Iterable[str]) -> None:
    schema["required"] = sorted({*schema["required"], *names})
    for name in names:
        (kind,) = (one for one in schema["properties"][name]["anyOf"] if one != {"type": "null"})
        schema["properties"][name] = kind


def _operation(path: str, method: str, description: Description) -> dict[str, Any]:
    scheme = _scheme(path)
    words = re.findall(r"[A-Za-z0-9]+", path.replace("{key}", "document").replace("/v1", ""))
    operation: dict[str, Any] = {
        "operationId": "_".join((method, *words)),
        "summary": description.summary,
        "parameters": [
            *_path_parameters(path),
            *_query_parameters(description.query),
            *(_header(header) for header in description.request_headers),
        ],
        "responses": _responses(method, description, scheme),
    }
    if description.body is not None:
        operation["requestBody"] = {
            "required": description.body_required,
            "content": {"application/json": {"schema": _reference(description.body)}},
        }
    if scheme is not None:
        operation["security"] = [{scheme: []}]
    return operation


def _scheme(path: str) -> Literal["token", "admin"] | None:
    """Whose token an address takes."""
    if path.startswith("/v1/admin/"):
        return "admin"
    return "token" if path.startswith("/v1/") else None


_REFUSALS: dict[str | None, tuple[Code, ...]] = {"token": AUTHENTICATED, "admin": ADMIN, None: ()}


def _responses(method: str, description: Description, scheme: str | None) -> dict[str, Any]:
    headers = _answer_headers(description.response_headers)
    responses: dict[str, Any] = {}
    for status, kind in description.answers.items():
        meaning = _MEANING[status]
        if description.item_problems:
            refusals = "; ".join(f"`{code}`: {TITLE[code]}" for code in description.item_problems)
            meaning += f"; each item has a result of its own, and may be refused with {refusals}"
        answer: dict[str, Any] = {"description": meaning, "headers": headers}
        if method != "head" and description.media_type != "application/json":
            answer["content"] = {description.media_type: {"schema": {"type": "string"}}}
        elif method != "head" and kind is not None:
            answer["content"] = {description.media_type: {"schema": _reference(kind)}}
        responses[str(status)] = answer
    by_status: dict[int, list[Code]] = {}
    for code in (*description.problems, *_REFUSALS[scheme], *ALWAYS):
        by_status.setdefault(STATUS[code], []).append(code)
    for status, codes in sorted(by_status.items()):
        problem: dict[str, Any] = {
            "description": "; ".join(f"`{code}`: {TITLE[code]}" for code in codes)
        }
        if status in _PROBLEM_HEADERS:
            problem["headers"] = _answer_headers(_PROBLEM_HEADERS[status])
        if method != "head":
            problem["content"] = {MEDIA_TYPE: {"schema": _reference(Problem)}}
        responses[str(status)] = problem
    return responses


def _answer_headers(headers: Iterable[Header]) -> dict[str, Any]:
    return {
        header.name: {
            "description": header.meaning,
            "required": header.always,
            "schema": {"type": "string"},
        }
        for header in headers
    }


_PROBLEM_HEADERS = {
    401: (Header("WWW-Authenticate", "The scheme, and whether a token was refused"),),
    415: (Header("Accept-Encoding", "The encoding that is taken: `identity`"),),
    503: (Header("Retry-After", "Seconds after which to send the request again"),),
}
_MEANING = {200: "Done", 201: "Created", 304: "Not changed", 503: "Not ready"}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = {
        "key": {"type": "string", "pattern": "^[A-Za-z0-9._:~-]{1,128}$"},
        "version": {"type": "integer", "minimum": 1},
        "board": {"type": "string", "description": "`xp`, `xp:week`, or a week: `xp:2026-W49`"},
        "account": {"type": "string", "minLength": 1, "maxLength": 128},
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": schemas[name]}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(query: type | None) -> list[dict[str, Any]]:
    if query is None:
        return []
    (schema,), components = msgspec.json.schema_components([query], ref_template=SCHEMAS)
    body = components[schema["$ref"].rpartition("/")[2]]
    required = body.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": portable(member)}
        for name, member in body["properties"].items()
    ]


def _header(header: Header) -> dict[str, Any]:
    return {
        "name": header.name,
        "in": "header",
        "description": header.meaning,
        "schema": {"type": "string"},
    }


def _reference(kind: type) -> dict[str, Any]:
    """The schema of a kind; only structs stand among the components."""
    if not issubclass(kind, msgspec.Struct):
        return msgspec.json.schema(kind)
    return {"$ref": SCHEMAS.format(name=kind.__name__)}


def portable(schema: Any) -> Any:
    """Patterns as JSON Schema writes them: Python's `\\Z` is an ECMAScript `$`."""
    if isinstance(schema, dict):
        return {
            name: item.replace(r"\Z", "$")
            if name == "pattern" and isinstance(item, str)
            else portable(item)
            for name, item in schema.items()
        }
    return [portable(item) for item in schema] if isinstance(schema, list) else schema
