"""The SQL of looking after the service."""

from collections.abc import Iterable, Sequence
from typing import Any

from app.operations.device_notes import DeviceNote
from app.operations.rejections import OTHER_KEYS

ESTIMATE = "select reltuples::bigint from pg_class where oid = 'heads'::regclass"
COUNT = "select count(*) from heads"
WRITE_REJECTIONS = """
with refused (account, key, code, count, last_at_ms, place) as (
    select w.*, row_number() over (partition by account order by count desc)
    from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
         w (account, key, code, count, last_at_ms)
), placed as (
    select w.account, w.code, w.count, w.last_at_ms,
           case when r.account is not null or n.rows + w.place <= $6 then w.key else $7 end as key
    from refused w
    left join rejections r on r.account = w.account and r.key = w.key and r.code = w.code
    cross join lateral (
        select count(*) as rows from rejections where account = w.account
    ) n
)
insert into rejections (account, key, code, count, last_at_ms)
select account, key, code, sum(count), max(last_at_ms) from placed
group by account, key, code order by account, key, code
on conflict (account, key, code) do update set
    count = rejections.count + excluded.count,
    last_at_ms = greatest(rejections.last_at_ms, excluded.last_at_ms)
"""
FORGET_REJECTIONS = """
delete from rejections where ctid = any (array(
    select ctid from rejections where last_at_ms < $1 limit $2 for update skip locked
))
"""
UPDATE_DEVICES = """
with told (account, device, cursor_seq, pending, at_ms) as (
    select * from unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::bigint[])
), free as (
    select d.account, d.device from devices d join told t using (account, device)
    for update of d skip locked
)
update devices d set
    cursor_seq = t.cursor_seq, pending = t.pending, told_at_ms = t.at_ms,
    last_seen_ms = greatest(d.last_seen_ms, t.at_ms)
from told t join free using (account, device)
where d.account = t.account and d.device = t.device and coalesce(d.told_at_ms, 0) <= t.at_ms
returning d.account, d.device
"""
ADD_DEVICE = """
insert into devices (account, device, first_seen_ms, last_seen_ms, cursor_seq, pending, told_at_ms)
select $1, $2, $5, $5, $3, $4, $5
where (select count(*) from devices where account = $1) < $6
on conflict (account, device) do nothing
"""
REJECTIONS_OF_ACCOUNT = 200
"""Rows by key; further keys of the account are counted together, by code."""
DEVICES_OF_ACCOUNT = 200
"""Devices that are noted for a pull alone; one that writes is always kept."""
EXACT_BELOW = 100_000
"""Accounts up to which they are counted; beyond, the planner's estimate is good enough."""


async def count_accounts(connection: Any) -> int:
    estimate: int = await connection.fetchval(ESTIMATE)
    if estimate >= EXACT_BELOW:
        return estimate
    exact: int = await connection.fetchval(COUNT)
    return exact


async def server_version(connection: Any) -> int:
    """server_version_num, such as 180006."""
    return int(await connection.fetchval("show server_version_num"))


async def server_clock_ms(connection: Any) -> int:
    return int(await connection.fetchval("select extract(epoch from clock_timestamp()) * 1000"))


async def switched_off(connection: Any, settings: Iterable[str]) -> list[str]:
    """Those of the server's settings that are off."""
    rows = await connection.fetch(
        "select name from pg_settings where name = any($1) and setting = 'off' order by name",
        list(settings),
    )
    return [row["name"] for row in rows]


async def write_rejections(
    connection: Any, rejections: Sequence[tuple[str, str, str, int, int]]
) -> None:
    """Adds to the counts; in the order of the keys, so that two processes wait for each other."""
    columns = zip(*rejections, strict=True)
    await connection.execute(WRITE_REJECTIONS, *columns, REJECTIONS_OF_ACCOUNT, OTHER_KEYS)


async def forget_rejections(connection: Any, before_ms: int, limit: int) -> int:
    """Deletes what did not happen since, up to a limit; how many went."""
    status: str = await connection.execute(FORGET_REJECTIONS, before_ms, limit)
    return int(status.rpartition(" ")[2])


async def update_devices(connection: Any, notes: Sequence[DeviceNote]) -> list[DeviceNote]:
    """Writes notes of known devices, where no newer one was written; the notes that were not.

    A row that a write holds just now is passed over: who waits while holding others could stand
    in the way of writes.
    """
    columns = zip(*notes, strict=True)
    written = {tuple(row) for row in await connection.fetch(UPDATE_DEVICES, *columns)}
    return [note for note in notes if note[:2] not in written]


async def add_device(connection: Any, note: DeviceNote) -> None:
    """Makes the row of a device that has written nothing yet, unless the account has many."""
    await connection.execute(ADD_DEVICE, *note, DEVICES_OF_ACCOUNT)
