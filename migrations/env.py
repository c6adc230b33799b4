"""Runs the migrations on the connection that `app.database.migrate` hands over."""

from alembic import context
from sqlalchemy import Connection, text

from app.database.schema import metadata

UPGRADE_LOCK = 0x53594E43
"""Key of the advisory lock that keeps two upgrades from running at once: "SYNC"."""

connection: Connection = context.config.attributes["connection"]
# Upgrades wait for each other, and for whoever uses a table, as long as it takes.
connection.execute(text("set local lock_timeout = 0"))
connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
# A long migration must not die of the statement timeout that guards requests.
connection.execute(text("set local statement_timeout = 0"))
context.configure(connection=connection, target_metadata=metadata)
context.run_migrations()
