"""The reference of the live socket as one page without scripts, made from the AsyncAPI document."""

from html import escape
from typing import Any

import msgspec

from app.operations.reference import STYLE, shown

BY = {"receive": "client", "send": "service"}
"""Who sends a message, by what the service does with it."""


def page(document: bytes) -> bytes:
    """The HTML of an AsyncAPI document with one channel."""
    content: dict[str, Any] = msgspec.json.decode(document)
    (channel,) = content["channels"].values()
    components = content["components"]
    frames = "".join(
        _frame(operation, components["messages"]) for operation in content["operations"].values()
    )
    codes = "".join(
        f"<tr><td><code>{one['code']}</code></td><td>{escape(one['meaning'])}</td></tr>"
        for one in channel["x-close-codes"]
    )
    schemas = "".join(
        f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{shown(schema)}</pre>'
        for name, schema in components["schemas"].items()
    )
    title = f"{escape(content['info']['title'])} {escape(content['info']['version'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(content['info']['description'])} "
        f'The same as <a href="/asyncapi.json">AsyncAPI 3.0</a>; '
        f'requests stand <a href="/docs">here</a>.</p>'
        f"<p><code>{escape(channel['address'])}</code>: {escape(channel['description'])}</p>"
        f"{frames}<h2>Close codes</h2><table>{codes}</table><h2>Schemas</h2>{schemas}</html>"
    ).encode()


def _frame(operation: dict[str, Any], messages: dict[str, Any]) -> str:
    (name,) = _names(operation["messages"])
    message = messages[name]
    schema = message["payload"]["$ref"].rpartition("/")[2]
    answers = ", ".join(f"<code>{escape(one)}</code>" for one in _names(_reply(operation)))
    return (
        f'<h2><b class="method">{BY[operation["action"]]}</b> <code>{escape(name)}</code></h2>'
        f"<p>{escape(message['summary'])}</p>"
        f'<p>Frame: <a href="#{escape(schema)}">{escape(schema)}</a></p>'
        + (f"<p>Answered by: {answers}</p>" if answers else "")
    )


def _reply(operation: dict[str, Any]) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = operation.get("reply", {}).get("messages", [])
    return messages


def _names(references: list[dict[str, str]]) -> list[str]:
    return [one["$ref"].rpartition("/")[2] for one in references]
