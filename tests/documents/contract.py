"""Holds every answer that these tests get against the service's own OpenAPI document."""

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from tests.conftest import ADMIN_TOKEN, Service

PROBLEM = "application/problem+json"


class Untrue(AssertionError):
    """The document does not tell the truth about an answer."""


@dataclass
class Contract:
    """The document of one service, and what was checked against it."""

    document: dict[str, Any]
    checked: set[tuple[str, str, int]] = field(default_factory=set)
    _validators: dict[str, Draft202012Validator] = field(default_factory=dict)

    @cached_property
    def _paths(self) -> list[tuple[re.Pattern[str], str]]:
        paths = sorted(self.document["paths"], key=lambda path: path.count("{"))
        return [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), path) for path in paths
        ]

    def template(self, path: str) -> str | None:
        for pattern, template in self._paths:
            if pattern.fullmatch(path):
                return template
        return None

    def check(self, response: httpx.Response) -> None:
        """Raises Untrue unless the document foretells this answer to this request."""
        response.read()
        request = response.request
        template = self.template(request.url.path)
        operation = self.document["paths"].get(template, {}).get(request.method.lower())
        if operation is None:
            self._check_undescribed(response)
            return
        where = f"{request.method} {template} {response.status_code}"
        answer = operation["responses"].get(str(response.status_code))
        if answer is None:
            raise Untrue(f"{where} is not in the document: {response.text[:300]}")
        self._check_content(where, answer, response)
        for name, header in answer.get("headers", {}).items():
            if header["required"] and name not in response.headers:
                raise Untrue(f"{where} has no {name}")
        if response.status_code < 300:
            self._check_request(where, operation, request)
        assert template is not None
        self.checked.add((request.method, template, response.status_code))

    def _check_content(self, where: str, answer: Any, response: httpx.Response) -> None:
        content = answer.get("content", {})
        if not content:
            if response.content:
                raise Untrue(f"{where} has a body: {response.text[:300]}")
            return
        ((media_type, holder),) = content.items()
        if response.headers["content-type"].partition(";")[0] != media_type:
            raise Untrue(f"{where} is {response.headers['content-type']}, not {media_type}")
        if not media_type.endswith("json"):
            return
        body = response.json()
        self._validate(where, holder["schema"], body)
        if media_type == PROBLEM:
            if f"`{body['code']}`" not in answer["description"]:
                raise Untrue(f"{where} does not name {body['code']}")
            if body["status"] != response.status_code:
                raise Untrue(f"{where} says {body['status']} in its body")

    def _check_undescribed(self, response: httpx.Response) -> None:
        """An unknown address or method is still answered by a problem document."""
        if response.content:
            assert response.headers["content-type"] == PROBLEM, response.text[:300]
            self._validate("problem", {"$ref": "#/components/schemas/Problem"}, response.json())

    def _check_request(self, where: str, operation: Any, request: httpx.Request) -> None:
        """What was accepted is what the document says is accepted."""
        known = {one["name"] for one in operation["parameters"] if one["in"] == "query"}
        if unknown := set(request.url.params) - known:
            raise Untrue(f"{where} takes {unknown}")
        body = operation.get("requestBody")
        if body is None or not isinstance(request.stream, httpx.ByteStream):
            return
        if request.content:
            schema = body["content"]["application/json"]["schema"]
            self._validate(f"{where} (request)", schema, json.loads(request.content))
        elif body["required"]:
            raise Untrue(f"{where} was accepted without a body")

    def _validate(self, where: str, schema: dict[str, Any], value: Any) -> None:
        name = json.dumps(schema)
        if name not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[name] = Draft202012Validator(whole)
        error = next(self._validators[name].iter_errors(value), None)
        if error is not None:
            raise Untrue(f"{where}: {error.message[:300]} at {list(error.absolute_path)}")


class CheckedService(Service):
    """A service of which every answer is checked."""

    @cached_property
    def contract(self) -> Contract:
        return Contract(httpx.get(f"{self.url}/openapi.json").json())

    def client(self, account: str | None = None) -> httpx.Client:
        """As the parent's, checked; without the certificates that take 30 ms to load."""
        account = account or f"account-{secrets.token_hex(8)}"
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token(account)}"},
            timeout=30.0,
            verify=False,
            event_hooks={"response": [self.contract.check]},
        )

    def operator(self, token: str = ADMIN_TOKEN) -> httpx.Client:
        """As the parent's, checked."""
        client = super().operator(token)
        client.event_hooks = {"response": [self.contract.check]}
        return client


def checked(service: Service) -> CheckedService:
    return CheckedService(service.url, service.database_url, service.app)


StartService = Callable[..., CheckedService]
