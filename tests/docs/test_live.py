"""The page for authors of live clients tells the truth."""

import asyncio
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from app.settings import BY_INSTALLATION, Settings
from tests.conftest import Service
from tests.docs.test_examples import ROOT, blocks
from tests.live.talk import opened, token, until

PAGE = (ROOT / "docs/how-to/live.md").read_text()
TIMES = ("updated_at", "server_time", "since", "cursor")


def without_times(value: Any) -> Any:
    """What differs each time is taken out."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


async def test_the_conversation_goes_as_printed(service: Service) -> None:
    """Authors of clients copy the frames from there."""
    (said,) = blocks(PAGE, "text")
    lines = [line.split(" ", 1) for line in said.splitlines()]
    assert len(lines) > 8
    async with opened(service.url) as talk:
        for who, text in lines:
            frame = json.loads(text)
            if who == "→":
                if "token" in frame:
                    frame["token"] = token("docs-live")
                await talk.connection.send(json.dumps(frame))
            else:
                if frame["type"] == "presence":  # it comes when it comes
                    told = [one for one in talk.frames if one["type"] == "presence"]
                    found = told[-1] if told else await talk.next("presence")
                else:
                    found = await talk.next(*ALL_BUT_PRESENCE)
                assert without_times(found) == without_times(frame)
                assert found.keys() == frame.keys()


ALL_BUT_PRESENCE = ("changes", "poke", "pushed", "problem", "resync", "reauth", "pong")


async def test_the_client_of_the_page_stays_up_to_date(
    start_service: Callable[..., Service],
) -> None:
    """It is the first one that people paste; poked, and with a token that expires, it goes on."""
    service = start_service(live_change_bytes=1_000, live_trust_s=3.0, live_reauth_s=2.0)
    (code,) = blocks(PAGE, "python")
    page: dict[str, Any] = {}
    exec(code, page)
    copy = page["Copy"]()
    url = service.url.replace("http", "ws") + "/v1/live"
    running = asyncio.create_task(
        page["stay_up_to_date"](url, lambda: token("docs-client"), "phone", copy)
    )
    with service.client("docs-client") as client:
        for number, size in enumerate((1, 5_000, 1, 5_000)):
            key = f"k{number}"
            await asyncio.to_thread(client.put, f"/v1/documents/{key}", json={"value": "x" * size})
            await until(partial(copy.documents.__contains__, key), f"{key} did not come")
        await asyncio.sleep(3.5)
        assert service.app.state.live.hub.frames["authenticated"] > 0
        await asyncio.to_thread(client.put, "/v1/documents/last", json={"value": 1})
        await until(lambda: "last" in copy.documents, "the last did not come")
    running.cancel()


async def test_the_client_of_the_page_survives_a_pull_that_fails(service: Service) -> None:
    """It was poked, its pull failed, and it waited for ever: nothing more was to come."""
    (code,) = blocks(PAGE, "python")
    page: dict[str, Any] = {}
    exec(code, page)
    copy, account = page["Copy"](), "docs-failing"
    url = service.url.replace("http", "ws") + "/v1/live"
    running = asyncio.create_task(
        page["stay_up_to_date"](url, lambda: token(account), "phone", copy)
    )
    await until(lambda: copy.cursor is not None, "it did not begin")
    frames = service.app.state.live.hub.frames
    began, good, copy.cursor = frames["problem"], copy.cursor, "nonsense"
    with service.client(account) as client:
        large = {"value": "x" * 100_000}
        await asyncio.to_thread(client.put, "/v1/documents/large", json=large)
    await until(lambda: frames["problem"] > began, "the pull did not fail")
    copy.cursor = good
    await until(lambda: "large" in copy.documents, "it did not pull again")
    running.cancel()


def test_every_setting_that_is_named_exists() -> None:
    """A renamed setting would leave operators looking for it."""
    fields = {f"SYNCLINE_{name.upper()}" for name in Settings.__struct_fields__}
    fields.add(BY_INSTALLATION)
    pages = (PAGE, (ROOT / "docs/how-to/operate.md").read_text())
    for name in {name for page in pages for name in re.findall(r"SYNCLINE_[A-Z_]+", page)}:
        assert name in fields, name
