"""What operators ask about all accounts: what is stored, what merges, what is refused, who lags.

Each answer reads no more than so many bytes of a table: exact while the table is that small, and
from a sample of its blocks beyond. Nothing here shows what a document holds.
"""

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.auth.types import ACCOUNT
from app.clock import Clock
from app.database.engine import Database
from app.documents.types import Milliseconds
from app.errors import Code, SynclineError
from app.operations import stats_store as store

DAY_MS = 86_400_000
MONTH_MS = 30 * DAY_MS
MOST_BYTES = 64 * 1024 * 1024
"""Of a table that are read; a sample of a larger one is of so many."""
MOST_DEVICE_BYTES = 16 * 1024 * 1024
"""Of devices, each of which has a head to be looked up."""
PATTERNS = 50
WORST = 20
"""Entries of each list."""
CANDIDATES = 200
"""Documents whose kept versions are counted."""
DEVICES_OF_ACCOUNT = 1_000

Share = Annotated[float, Meta(ge=0, le=1, description="Part of the table that was read; 1: exact")]


class KeyGroup(msgspec.Struct):
    """Documents of one key, or of all keys that begin alike up to a colon; `deleted` are
    tombstones among them."""

    pattern: str
    documents: int
    deleted: int
    average_version: float
    highest_version: int


class MergedDocument(msgspec.Struct):
    """Of the `kept` versions of a document, how many came from a merge."""

    account: str
    key: str
    version: int
    kept: int
    merged: int


class RejectedCode(msgspec.Struct):
    """How often anything was refused with a code, and to how many accounts."""

    code: str
    times: int
    accounts: int
    last_at: Milliseconds


class Rejected(msgspec.Struct):
    """`key`: of a document, `events/TYPE`, or `*` for all others of the account."""

    account: str
    key: str
    code: str
    times: int
    last_at: Milliseconds


class DeviceStatus(msgspec.Struct):
    """A local store, by what it said last, at `told_at`; null where it never did.

    `cursor_seq`: the sequence up to which it had seen changes; `behind`: changes since. `pending`:
    mutations and events that waited on it. `accepted`: mutations that have a number.
    """

    account: str
    device: str
    first_seen: Milliseconds
    last_seen: Milliseconds
    accepted: int
    cursor_seq: int | None
    behind: int | None
    pending: int | None
    told_at: Milliseconds | None


class DeviceCounts(msgspec.Struct):
    """`waiting`: those on which something waits; `pending`: how much, on all of them."""

    devices: int
    seen_last_day: int
    seen_last_month: int
    waiting: int
    pending: int


class Sampled(msgspec.Struct):
    """How much of each table was read. Counts are scaled up to the whole, lists are not."""

    documents: Share
    revisions: Share
    rejections: Share
    devices: Share


class Stats(msgspec.Struct):
    """Each list has the largest first."""

    sampled: Sampled
    keys: list[KeyGroup]
    merged: list[MergedDocument]
    rejected_codes: list[RejectedCode]
    rejected: list[Rejected]
    devices: DeviceCounts
    behind: list[DeviceStatus]
    waiting: list[DeviceStatus]


class AccountDevices(msgspec.Struct):
    """The local stores of an account, last seen first; `head`: the sequence of its changes."""

    account: str
    head: int
    devices: list[DeviceStatus]


class Statistics:
    """Asks one connection at a time: operators wait for each other, and users for none of them."""

    def __init__(
        self, database: Database, clock: Clock, history: int, most_bytes: int = MOST_BYTES
    ) -> None:
        self._database = database
        self._clock = clock
        self._history = history
        self._most_bytes = most_bytes
        self._asking = asyncio.Lock()

    async def read(self) -> Stats:
        """The statistics of about now."""
        async with self._asking:
            return await self._database.read(self._read)

    async def devices(self, account: str) -> AccountDevices:
        """The devices of an account; raises INVALID_REQUEST for what no account can be."""
        if not ACCOUNT.fullmatch(account):
            raise SynclineError(
                Code.INVALID_REQUEST, "An account is 1 to 128 characters, none of them control."
            )
        head, rows = await self._database.read(
            lambda connection: store.of_account(connection, account, DEVICES_OF_ACCOUNT)
        )
        return AccountDevices(account, head, [_device(row) for row in rows])

    async def _read(self, connection: Any) -> Stats:
        now_ms = self._clock()
        most, few = self._most_bytes, min(self._most_bytes, MOST_DEVICE_BYTES)
        documents = await store.share(connection, "documents", most)
        revisions = await store.share(connection, "revisions", most)
        rejections = await store.share(connection, "rejections", most)
        devices = await store.share(connection, "devices", few)
        counts = await store.devices(connection, devices, now_ms - DAY_MS, now_ms - MONTH_MS)
        behind = await store.behind(connection, devices, now_ms - MONTH_MS, WORST)
        return Stats(
            sampled=Sampled(*(one / 100 for one in (documents, revisions, rejections, devices))),
            keys=[
                KeyGroup(
                    row["pattern"],
                    _scaled(row["documents"], documents),
                    _scaled(row["deleted"], documents),
                    round(row["average_version"], 2),
                    row["highest_version"],
                )
                for row in await store.keys(connection, documents, PATTERNS)
            ],
            merged=[
                MergedDocument(**row)
                for row in await store.merged(
                    connection, revisions, CANDIDATES, self._history, WORST
                )
            ],
            rejected_codes=[
                RejectedCode(
                    row["code"],
                    _scaled(row["times"], rejections),
                    _scaled(row["accounts"], rejections),
                    row["last_at_ms"],
                )
                for row in await store.rejected_by_code(connection, rejections)
            ],
            rejected=[
                Rejected(*row) for row in await store.rejected_most(connection, rejections, WORST)
            ],
            devices=DeviceCounts(*(_scaled(count, devices) for count in counts)),
            behind=[_device(row) for row in behind if row["behind"]],
            waiting=[_device(row) for row in await store.waiting(connection, devices, WORST)],
        )


def _scaled(count: int, percent: float) -> int:
    """What a count in a sample says of the whole."""
    return count if percent >= 100 else round(count * 100 / percent)


def _device(row: Any) -> DeviceStatus:
    return DeviceStatus(
        account=row["account"],
        device=row["device"],
        first_seen=row["first_seen_ms"],
        last_seen=row["last_seen_ms"],
        accepted=row["accepted"],
        cursor_seq=row["cursor_seq"],
        behind=row["behind"],
        pending=row["pending"],
        told_at=row["told_at_ms"],
    )
