"""The API reference as one page without scripts, made from the OpenAPI document."""

from html import escape
from typing import Any

import msgspec

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1b1f24;background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace}
h2{margin-top:2.5rem;border-top:1px solid #d0d7de;padding-top:1rem}
b.method{background:#0b5;color:#fff;border-radius:4px;padding:.1rem .5rem;font-size:.85rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;
border-bottom:1px solid #eaeef2;padding:.3rem .6rem .3rem 0}pre{background:#f6f8fa;padding:1rem;
overflow:auto}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}
pre{background:#161b22}h2,td,th{border-color:#30363d}}
"""


def page(document: bytes) -> bytes:
    """The HTML of an OpenAPI document."""
    content: dict[str, Any] = msgspec.json.decode(document)
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in content["paths"].items()
        for method, operation in methods.items()
    )
    schemas = "".join(
        f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{shown(schema)}</pre>'
        for name, schema in content["components"]["schemas"].items()
    )
    title = f"{escape(content['info']['title'])} {escape(content['info']['version'])}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(content['info']['description'])} "
        f'The same as <a href="/openapi.json">OpenAPI 3.1</a>; '
        f'the live socket stands <a href="/docs/live">here</a>.</p>'
        f"{operations}<h2>Schemas</h2>{schemas}</html>"
    ).encode()


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
        f"<td>{escape(one.get('description', one['schema'].get('description', '')))}</td></tr>"
        for one in operation["parameters"]
    )
    responses = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td>"
        f"<td>{_links(answer)}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    body = f"<p>Body: {_links(operation['requestBody'])}</p>" if "requestBody" in operation else ""
    return (
        f'<h2><b class="method">{method.upper()}</b> <code>{escape(path)}</code></h2>'
        f"<p>{escape(operation['summary'])}</p><table>{parameters}</table>{body}"
        f"<table>{responses}</table>"
    )


def _links(holder: dict[str, Any]) -> str:
    names = {
        content["schema"]["$ref"].rpartition("/")[2]
        for content in holder.get("content", {}).values()
        if "$ref" in content["schema"]
    }
    return ", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in sorted(names))


def shown(value: Any) -> str:
    """A value as indented JSON, ready for a page."""
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
