"""A look behind the service: SQL on the database of a test."""

import asyncio
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

REFUSE_POISON = "alter table documents add constraint poison check (key <> 'poison')"
"""Makes PostgreSQL refuse one document, as it might refuse what nobody thought of."""


def fetch(url: str, sql: str, *arguments: Any) -> list[Any]:
    return asyncio.run(_fetch(url, sql, *arguments))


async def _fetch(url: str, sql: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(sql, *arguments)
        return rows
    finally:
        await connection.close()


def administer(url: str, *statements: str) -> None:
    """SQL about a database, from beside it."""
    asyncio.run(execute(urlunsplit(urlsplit(url)._replace(path="/postgres")), *statements))


async def execute(url: str, *statements: str) -> None:
    """On a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
