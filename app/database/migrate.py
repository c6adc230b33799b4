"""Bringing a database up to date, and asking whether it is."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import migrations
from app.database.engine import Database
from app.database.roles import grant_role
from app.database.trouble import DATABASE_ERRORS, describe

OLDEST_SERVER = 150_000
"""server_version_num of PostgreSQL 15, the oldest that is tested."""


class MigrationError(Exception):
    """The database cannot be brought up to date; the text says what to do."""


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def newest_revision() -> str:
    """The schema that this version of Syncline needs."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    assert head is not None, "migrations/ holds no revision"
    return head


async def present_revision(connection: Any) -> str | None:
    """The schema that the database has, by an asyncpg connection; None if it has none."""
    if await connection.fetchval("select to_regclass('alembic_version')") is None:
        return None
    version: str | None = await connection.fetchval("select version_num from alembic_version")
    return version


async def migrate(database: Database) -> None:
    """Upgrades the schema to the newest revision; several at once wait for each other."""
    async with database.connection() as connection:
        server = int(await connection.fetchval("show server_version_num"))
    if server < OLDEST_SERVER:
        raise MigrationError(
            f"this server is PostgreSQL {server // 10_000}; Syncline needs 15 or newer"
        )
    config = configuration()
    try:
        async with database.engine.begin() as transaction:
            await transaction.run_sync(_upgrade, config)
            await grant_role(transaction)
    except DATABASE_ERRORS as error:
        raise MigrationError(f"the upgrade was refused: {describe(error)}") from error


def _upgrade(connection: Any, config: Config) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
