"""The AsyncAPI document: valid by the official schema, whole, and complete in what it explains."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, get_args

import httpx
import msgspec
import pytest
from jsonschema import Draft7Validator

from app.live import asyncapi
from app.live.types import ClientFrame, CloseCode, Hello, Pong, Push, ServerFrame
from tests.conftest import Service
from tests.live.document import validator
from tests.live.talk import DESCRIBED, Json, opened, token
from tests.node import installed
from tests.sync.wire import forge_cursor, put, sync

SPECS = ("@asyncapi/specs", "6.11.1")


@pytest.fixture
def document(service: Service) -> dict[str, Any]:
    answer = httpx.get(f"{service.url}/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="session")
def official() -> Draft7Validator:
    """The JSON Schema of AsyncAPI 3.0.0 as its authors publish it."""
    folder = installed(*SPECS)
    path = folder / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
    return Draft7Validator(json.loads(path.read_text()))


def test_the_document_is_valid_by_the_official_schema(
    document: dict[str, Any], official: Draft7Validator
) -> None:
    """Tools that read AsyncAPI refuse what is not."""
    errors = [
        f"{list(one.absolute_path)}: {one.message[:200]}" for one in official.iter_errors(document)
    ]
    assert errors == []


def test_the_official_schema_refuses_what_is_wrong(
    document: dict[str, Any], official: Draft7Validator
) -> None:
    """Else the test above could not fail."""
    document["operations"]["receive_hello"]["action"] = "listen"
    assert not official.is_valid(document)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """The official schema does not look."""
    references = set(re.findall(r"'\$ref': '([^']+)'", str(document)))
    assert len(references) > 30
    for reference in references:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def test_every_frame_and_every_close_code_is_described(document: dict[str, Any]) -> None:
    """A frame that is not in the document is one that no client expects."""
    frames = {asyncapi.name(kind) for kind in get_args(ClientFrame | ServerFrame)}
    assert set(document["components"]["messages"]) == frames
    assert set(document["channels"]["live"]["messages"]) == frames
    for message in document["components"]["messages"].values():
        assert message["summary"]
    receives, sends = (
        {
            operation["messages"][0]["$ref"].rpartition("/")[2]
            for operation in document["operations"].values()
            if operation["action"] == action
        }
        for action in ("receive", "send")
    )
    assert receives == {asyncapi.name(kind) for kind in get_args(ClientFrame)}
    assert sends == {asyncapi.name(kind) for kind in get_args(ServerFrame)}
    codes = [one["code"] for one in document["channels"]["live"]["x-close-codes"]]
    assert codes == [int(code) for code in CloseCode]


def test_the_schemas_tell_frames_apart(document: dict[str, Any]) -> None:
    """What the document lets pass and what the service decodes are the same."""
    validate = validator(document)
    hello = json.loads(msgspec.json.encode(Hello("hello", "token", "d1")))
    assert validate("client", hello) is None
    assert validate("client", {**hello, "devise": "d1"}) is not None
    assert validate("client", {**hello, "device": "a b"}) is not None
    assert validate("client", {"type": "hello", "token": "t"}) is not None
    assert validate("client", json.loads(msgspec.json.encode(Push("push")))) is None
    assert validate("server", hello) is not None
    assert validate("server", json.loads(msgspec.json.encode(Pong(server_time=1)))) is None
    assert validate("server", {"type": "pong"}) is not None
    assert validate("server", {"type": "unheard-of"}) is not None


def test_the_document_is_built_the_same_each_time(service: Service) -> None:
    """A document that changes by itself cannot be compared from release to release, and the
    tests of the conversation hold frames against what is built, not against what is served."""
    assert asyncapi.build() == httpx.get(f"{service.url}/asyncapi.json").content


async def test_the_service_sends_every_frame_as_described(
    start_service: Callable[..., Service], account: str
) -> None:
    """A frame that no test ever met could be described in any way. `Talk` checks what comes."""
    service = start_service(live_changes=1, live_reauth_s=3600)
    sent: list[Json] = []
    async with opened(service.url) as talk:

        async def send(**frame: Any) -> None:
            sent.append(frame)
            await talk.connection.send(json.dumps(frame))

        await send(type="hello", token=token(account, 4), device="d1", cursor=None)
        await talk.next("reauth")
        await send(type="token", token=token(account))
        await talk.next("authenticated")
        await send(type="ping", ref=1)
        await talk.next("pong")
        await send(type="push", device="d1", mutations=[put(f"k{n}", n) for n in range(3)], ref="r")
        await talk.next("pushed")
        await send(type="push", cursor="no cursor", events=[], ref=2)
        await talk.next("problem")
        with service.client(account) as client:
            sync(client, *(put(f"m{n}", n) for n in range(3)))
        await talk.next("poke")
    async with opened(service.url) as lost:
        await lost.hello(account, "d2", forge_cursor("00000000.1"))
        await lost.next("resync")
        await lost.next("presence")
    met = {frame["type"] for frame in (*talk.frames, *lost.frames)}
    assert met == {asyncapi.name(kind) for kind in get_args(ServerFrame)}
    assert {frame["type"] for frame in sent} == {
        asyncapi.name(kind) for kind in get_args(ClientFrame)
    }
    for frame in sent:
        assert DESCRIBED("client", frame) is None, frame


class _Links(HTMLParser):
    """The targets of links within a page, its anchors, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "href" and value:
                self.targets.add(value)
            if name == "id" and value:
                self.anchors.add(value)


def test_the_page_names_every_frame_and_its_links_lead_somewhere(
    service: Service, document: dict[str, Any]
) -> None:
    """It is the one place where a person reads what may be sent."""
    answer = httpx.get(f"{service.url}/docs/live")
    assert answer.headers["content-type"].startswith("text/html")
    for name in document["components"]["messages"]:
        assert f"<code>{name}</code>" in answer.text
    for code in CloseCode:
        assert f"<code>{int(code)}</code>" in answer.text
    links = _Links()
    links.feed(answer.text)
    assert "script" not in links.tags
    for target in links.targets:
        if target.startswith("#"):
            assert target.removeprefix("#") in links.anchors
        else:
            assert httpx.get(f"{service.url}{target}").status_code == 200
