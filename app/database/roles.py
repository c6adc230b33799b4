"""The role that the service acts as: it may write everything but the past of the ledger.

The user of the URL owns the tables and upgrades them. Each connection of the service then gives
up that power and becomes `syncline_service`, for which PostgreSQL itself refuses to change or
delete an event.
"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

ROLE = "syncline_service"

GRANT = f"""
do $grant$
declare
    here text := current_schema();
begin
    if to_regrole('{ROLE}') is null then
        begin
            create role {ROLE} nologin;
        exception
            when duplicate_object or unique_violation then
                null;  -- another database of this cluster was faster
            when insufficient_privilege then
                raise exception 'this user may not create roles: let an administrator say "create '
                    'role {ROLE}; grant {ROLE} to %" once', current_user;
        end;
    end if;
    -- From 16 on, who makes a role is a member of it that may grant it and not become it.
    if not pg_has_role(current_user, '{ROLE}', case
            when current_setting('server_version_num')::int < 160000 then 'member' else 'set'
        end) then
        execute format('grant {ROLE} to %I', current_user);
    end if;
    execute format('grant usage on schema %I to {ROLE}', here);
    execute format(
        'grant select, insert, update, delete on all tables in schema %I to {ROLE}', here);
    execute format('revoke update, delete, truncate on %I.events from {ROLE}', here);
end
$grant$
"""
IS_GRANTED = f"""
select case when to_regrole('{ROLE}') is null or to_regclass('events') is null then false
            else has_table_privilege('{ROLE}', 'events', 'insert') end
"""
BECOME = f"set role {ROLE}"


class NotGranted(ConnectionError):
    """The database was not upgraded, or was restored without its rights: `syncline migrate`."""


async def grant_role(transaction: AsyncConnection) -> None:
    """Makes the role and gives it what it may do; repeating it changes nothing.

    To be called within the transaction of an upgrade, whose lock keeps others away.
    """
    await transaction.exec_driver_sql(GRANT)


async def is_granted(connection: Any) -> bool:
    """Whether the database has the role and lets it use the tables."""
    return bool(await connection.fetchval(IS_GRANTED))


async def act_as_service(connection: Any) -> None:
    """Lets an asyncpg connection act as the service from now on.

    Raises NotGranted rather than leave it the power of its user: a database may be restored
    without its rights under a service that runs.
    """
    if not await is_granted(connection):
        raise NotGranted("the database does not let the service act as its role")
    await connection.execute(BECOME)
