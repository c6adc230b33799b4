"""The SQL of sockets: which accounts have moved, who is present, which processes live."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

MOVED = """
select (select era from eras order by began_at_ms desc, era desc limit 1) as era,
       h.account, h.seq
from (values (1)) one (row)
left join (
    select h.account, h.seq
    from unnest($1::text[], $2::bigint[]) w (account, seq)
    join heads h on h.account = w.account and h.account = any($1)
    where h.seq <> w.seq
) h on true
"""

# The database's own clock: those of machines differ.
NOW_MS = "(extract(epoch from clock_timestamp()) * 1000)::bigint"
BEAT = f"""
insert into processes (process, alive_at_ms, listens) select $1, {NOW_MS}, $2
on conflict (process) do update
    set alive_at_ms = excluded.alive_at_ms, listens = excluded.listens
returning xmax = 0 as new,
          exists (select from processes where process <> $1 and listens) as heard
"""  # noqa: S608 - constant text
BURY = f"""
with dead as (
    delete from processes where alive_at_ms < {NOW_MS} - $1::bigint returning process
)
delete from presence p
where p.process in (select process from dead)
   or not exists (select from processes where process = p.process)
returning p.account
"""  # noqa: S608 - constant text
JOIN = """
insert into presence (account, process, socket, device, since_ms)
select account, $1, socket, device, since_ms
from unnest($2::text[], $3::uuid[], $4::text[], $5::bigint[]) w (account, socket, device, since_ms)
on conflict (account, process, socket) do nothing
"""
LEAVE = """
delete from presence p using unnest($2::text[], $3::uuid[]) w (account, socket)
where p.account = w.account and p.account = any($2) and p.process = $1 and p.socket = w.socket
"""
PRESENT = """
select account, device, min(since_ms) as since_ms from presence
where account = any($1) and process in (select process from processes)
group by account, device order by account, since_ms, device
"""
LEAVE_ALL = "delete from presence where process = $1 returning account"
END = "delete from processes where process = $1"

LISTEN_ASYNC = "set synchronous_commit = off"
"""A message is a hint: nobody has to wait until the disk knows of it."""
NOTIFY = "select pg_notify($1, message) from unnest($2::text[]) message"
ALIVE = "select 1"


class Seat(NamedTuple):
    """A socket that is present."""

    account: str
    socket: UUID
    device: str
    since_ms: int


class Beat(NamedTuple):
    new: bool
    """Whether nobody knew of this process: it has just started, or was taken for dead."""
    heard: bool
    """Whether another process has sockets, a dead one not yet removed among them."""


async def moved(
    connection: Any, accounts: Sequence[str], seqs: Sequence[int]
) -> tuple[str, list[tuple[str, int]]]:
    """The newest era, and the accounts whose head is another one than was thought."""
    rows = await connection.fetch(MOVED, accounts, seqs)
    return rows[0]["era"], [(row["account"], row["seq"]) for row in rows if row["account"]]


async def beat(connection: Any, process: UUID, *, listens: bool) -> Beat:
    """`listens`: the process has sockets."""
    row = await connection.fetchrow(BEAT, process, listens)
    return Beat(row["new"], row["heard"])


async def bury(connection: Any, silent_ms: int) -> set[str]:
    """Removes processes that were silent for so long; the accounts that had sockets there."""
    return {row["account"] for row in await connection.fetch(BURY, silent_ms)}


async def join(connection: Any, process: UUID, seats: Sequence[Seat]) -> None:
    columns = ([seat[i] for seat in seats] for i in range(4))
    await connection.execute(JOIN, process, *columns)


async def leave(connection: Any, process: UUID, seats: Sequence[Seat]) -> None:
    accounts, sockets = [seat.account for seat in seats], [seat.socket for seat in seats]
    await connection.execute(LEAVE, process, accounts, sockets)


async def present(connection: Any, accounts: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """Devices and since when, by account, the longest present first."""
    found: dict[str, list[tuple[str, int]]] = {}
    for row in await connection.fetch(PRESENT, accounts):
        found.setdefault(row["account"], []).append((row["device"], row["since_ms"]))
    return found


async def end(connection: Any, process: UUID) -> set[str]:
    """Removes a process that stops; the accounts that had sockets there."""
    gone = {row["account"] for row in await connection.fetch(LEAVE_ALL, process)}
    await connection.execute(END, process)
    return gone


async def prepare_listener(connection: Any) -> None:
    await connection.execute(LISTEN_ASYNC)


async def notify(connection: Any, channel: str, messages: Sequence[str]) -> None:
    await connection.execute(NOTIFY, channel, messages)


async def ask_for_life(connection: Any) -> None:
    await connection.fetchval(ALIVE)
