"""Standings and boards in PostgreSQL: the truth of every leaderboard."""

import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.leaderboard import statements as sql
from app.leaderboard.ranking import Change, Counts, Entry, counts_of
from app.leaderboard.ranking import settle as counts_after

BUCKETS = 512
"""A rank among a million counts some two thousand rows one by one, at most."""
COUNT_TIMEOUT_S = 120.0
COPIED_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Shown:
    """An account on a board; what it calls itself is JSON as it wrote it."""

    account: str
    score: int
    name: str | None
    avatar: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a board, where one account stands, and how many stand above some scores."""

    shown: list[Shown]
    score: int
    listed: bool
    above: dict[int, int]
    """By score, the accounts with a greater one: for the first two that differ, and one's own."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a board is settled, what changed since, and where one account stands."""

    tag: int | None
    members: int
    changes: list[Change]
    score: int
    listed: bool


class Player(NamedTuple):
    """An account that Redis named, as PostgreSQL knows it."""

    tag: int | None
    present: int | None
    settled: int | None
    name: str | None
    avatar: str | None


class Settled(NamedTuple):
    """What was settled at one time, from a tag to the next one."""

    old_tag: int
    new_tag: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Board:
    """The row of a board."""

    tag: int
    counts: Counts
    moved: int
    counted_at_ms: int


async def read_top(connection: Any, board: str, account: str, limit: int) -> Page:
    """The best of a board, as of one moment."""
    return _page(await connection.fetchrow(sql.BOARD_TOP, board, account, limit))


async def read_around(connection: Any, board: str, account: str, half: int) -> Page:
    """The account and up to `half` on either side of it, as of one moment."""
    return _page(await connection.fetchrow(sql.BOARD_AROUND, board, account, half))


def _page(row: Any) -> Page:
    columns = (row["accounts"], row["scores"], row["names"], row["avatars"])
    return Page(
        shown=[Shown(*values) for values in zip(*columns, strict=True)],
        score=row["score"] or 0,
        listed=bool(row["listed"]),
        above=dict(zip(row["points"], row["above"], strict=True)),
    )


async def read_state(connection: Any, board: str, account: str, most: int) -> State:
    """The state of a board, with `most` of its changes."""
    row = await connection.fetchrow(sql.STATE, board, account, most)
    columns = zip(row["accounts"], row["present"], row["settled"], strict=True)
    return State(
        tag=row["tag"],
        members=row["members"] or 0,
        changes=[Change(*values) for values in columns],
        score=row["score"] or 0,
        listed=bool(row["listed"]),
    )


async def read_players(connection: Any, board: str, accounts: Sequence[str]) -> list[Player]:
    """What is known of accounts, in their order."""
    return [
        Player(row["tag"], row["present"], row["settled"], row["name"], row["avatar"])
        for row in await connection.fetch(sql.PLAYERS, board, list(accounts))
    ]


async def settle(connection: Any, board: str, portion: int, now_ms: int) -> Settled | None:
    """Settles some of what changed; None if there is nothing, or another process is at it.

    It waits for no row, so that it takes part in no deadlock, and holds those that it takes for
    two statements.
    """
    await connection.execute(sql.ADD_BOARD, board, _tag(), now_ms)
    async with connection.transaction():
        locked = await connection.fetchrow(sql.LOCK_FREE_BOARD, board)
        if locked is None:
            return None
        rows = await connection.fetch(sql.TAKE_UNSETTLED, board, portion)
        if not rows:
            return None
        changes = [Change(row["account"], row["present"], row["settled"]) for row in rows]
        await connection.execute(
            sql.SETTLE, board, [one.account for one in changes], [one.present for one in changes]
        )
        nothing = [row["account"] for row in rows if row["nothing"]]
        if nothing:
            # No row says as much, and the account may have been deleted.
            await connection.execute(sql.DROP_ALL, board, nothing)
        before = _board(locked)
        after = Board(
            _tag(),
            counts_after(before.counts, changes),
            before.moved + len(changes),
            before.counted_at_ms,
        )
        await _save(connection, board, after)
    return Settled(before.tag, after.tag, changes)


async def count_again(connection: Any, board: str, now_ms: int) -> Board:
    """Counts the settled scores of a board, from bounds that divide them evenly.

    A board whose counts were wrong, since somebody deleted rows by hand, has a new tag, so that
    Redis is compared anew.
    """
    await connection.execute(sql.ADD_BOARD, board, _tag(), now_ms)
    async with connection.transaction():
        for setting in ("statement_timeout", "lock_timeout"):
            await connection.execute(f"set local {setting} = {int(COUNT_TIMEOUT_S * 1000)}")
        before = _board(await connection.fetchrow(sql.LOCK_BOARD, board))
        fractions = [part / BUCKETS for part in range(1, BUCKETS)]
        quantiles = await connection.fetchval(sql.BOUNDS, board, fractions, timeout=COUNT_TIMEOUT_S)
        bounds = sorted(set(quantiles or ()))
        in_bucket = await connection.fetch(
            sql.COUNT_SETTLED, board, bounds, timeout=COUNT_TIMEOUT_S
        )
        counts = counts_of(bounds, dict(in_bucket))
        right = counts.members == before.counts.members
        after = Board(before.tag if right else _tag(), counts, 0, now_ms)
        await _save(connection, board, after)
    return after


async def read_tag(connection: Any, board: str) -> int | None:
    tag: int | None = await connection.fetchval(sql.READ_TAG, board)
    return tag


async def read_board(connection: Any, board: str) -> Board | None:
    row = await connection.fetchrow(sql.READ_BOARD_COUNTS, board)
    return None if row is None else _board(row)


def _board(row: Any) -> Board:
    counts = Counts(row["bounds"], row["above"], row["members"])
    return Board(row["tag"], counts, row["moved"], row["counted_at_ms"])


async def _save(connection: Any, board: str, one: Board) -> None:
    counts = one.counts
    await connection.execute(
        sql.SAVE_COUNTS,
        board,
        one.tag,
        counts.bounds,
        counts.above,
        counts.members,
        one.moved,
        one.counted_at_ms,
    )


def _tag() -> int:
    """Random, so that no two states of a board share one, also after a restore."""
    return secrets.randbits(62)


async def list_boards(connection: Any) -> list[str]:
    """All boards that anybody is or was on."""
    return [row[0] for row in await connection.fetch(sql.LIST_BOARDS)]


async def unsettled_boards(connection: Any) -> list[str]:
    return [row[0] for row in await connection.fetch(sql.UNSETTLED_BOARDS)]


async def copy_settled(connection: Any, board: str) -> AsyncGenerator[list[Entry], None]:
    """All settled accounts and scores of a board, in portions. Needs a transaction."""
    cursor = await connection.cursor(sql.READ_SETTLED, board)
    while rows := await cursor.fetch(COPIED_AT_ONCE):
        yield [(row["account"], row["settled"]) for row in rows]


async def forget(connection: Any, account: str) -> None:
    """Takes an account off all boards for good, within the transaction that deletes it.

    The rows that a board counts go when it is settled, within a second or so. Never delete them
    otherwise: the board would go on counting them, for an hour at most.
    """
    await connection.execute(sql.DROP_UNCOUNTED, account)
    await connection.execute(sql.MARK_FORGOTTEN, account)


async def prune(connection: Any, board: str, portion: int) -> int:
    """Deletes some standings of a board, and the board with the last; how many rows went."""
    gone = int((await connection.execute(sql.PRUNE, board, portion)).split()[-1])
    if gone < portion:
        await connection.execute(sql.DROP_BOARD, board)
    return gone


async def secret(connection: Any, name: str) -> bytes:
    """A secret of this deployment, made at the first call, whoever calls first."""
    await connection.execute(sql.ADD_SECRET, name, secrets.token_bytes(32))
    value: bytes = await connection.fetchval(sql.READ_SECRET, name)
    return value
