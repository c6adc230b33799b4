"""The SQL of leaderboards.

A rank counts the scores above one. A million rows take most of a second to count, so the table
`boards` holds how many *settled* scores there are from each of some bounds on. What is counted row
by row is only what lies between a score and the next bound; and the rows whose settled score is
not the present one, which an index holds, correct the rest. All of it in one statement, so all
of one moment: the rank is exact.
"""
# ruff: noqa: S608 - what is put together here is constant

PRESENT = "(case when listed and score > 0 then score end)"
"""The score under which an account stands on a board; null where it does not."""
UNSETTLED = f"(settled is distinct from {PRESENT})::int = 1"
"""To the letter as in the index, which is used only then.

Compared with a number, since PostgreSQL then expects few such rows. Of the plain condition it would
judge by statistics, which after an import say that all rows are so, and would read them all.
"""
LARGEST = 2**63 - 1
PLAYER_BYTES = 16_384
"""Larger documents of players are not looked into, as stored: they would slow all boards down."""


def _player(account: str) -> str:
    """What an account's document says.

    Accounts of standings have another collation than those of documents, by whose index each is
    to be looked up; `limit` forbids to join all there are instead.
    """
    return f"""
left join lateral (
    select value -> 'display_name' as name, value -> 'avatar' as avatar
    from documents
    where account = {account} collate "default" and key = 'player'
    and pg_column_size(value) <= {PLAYER_BYTES}
    limit 1
) player on true
"""


TOP = """
select account, score from standings
where board = $1 and listed and score > 0
order by score desc, account desc limit $3
"""
AROUND = """
(select near.account, near.score from me, lateral (
    select account, score from standings
    where board = $1 and listed and score > 0 and (score, account) >= (me.score, $2)
    order by score, account limit $3 + 1
) near where me.listed and me.score > 0)
union all
(select near.account, near.score from me, lateral (
    select account, score from standings
    where board = $1 and listed and score > 0 and (score, account) < (me.score, $2)
    order by score desc, account desc limit $3
) near where me.listed and me.score > 0)
"""


def _board(page: str) -> str:
    """Some entries of a board, where $2 stands on it, and the counts that give the ranks."""
    return f"""
with me as materialized (
    select score, listed from standings where account = $2 and board = $1
), page as materialized ({page}
), shown as materialized (
    select account, score, player.name::text as name, player.avatar::text as avatar
    from page {_player("page.account")}
), points as materialized (
    select score from me where listed and score > 0
    union (select distinct score from page order by score desc limit 2)
), unsettled as materialized (
    select coalesce({PRESENT}, 0) as present, coalesce(settled, 0) as settled
    from standings where board = $1 and {UNSETTLED}
), counted as materialized (
    select points.score, upper.above, upper.score as upper
    from points left join boards on board = $1
    left join lateral (
        select bounds[i + 1] as score, above[i + 1] as above
        from (select width_bucket(points.score, bounds) as i) _
    ) upper on true
)
select (select score from me) as score, (select listed from me) as listed,
    array(select score from counted order by score desc) as points,
    array(
        select coalesce(above, 0) + (
            select count(*) from standings s where s.board = $1 and s.listed
            and s.score > counted.score and s.score <= coalesce(counted.upper - 1, {LARGEST})
        ) + (
            select coalesce(sum((present >= upper)::int - (settled >= upper)::int), 0)
            from unsettled
        )
        from counted order by score desc
    )::bigint[] as above,
    array(select account from shown order by score desc, account desc) as accounts,
    array(select score from shown order by score desc, account desc) as scores,
    array(select name from shown order by score desc, account desc) as names,
    array(select avatar from shown order by score desc, account desc) as avatars
"""


BOARD_TOP = _board(TOP)
BOARD_AROUND = _board(AROUND)

STATE = f"""
select tag, members, me.score, me.listed, accounts, present, unsettled.settled
from (values (1)) one (row)
left join boards on boards.board = $1
left join standings me on me.account = $2 and me.board = $1
cross join lateral (
    select coalesce(array_agg(account), '{{}}') as accounts,
        coalesce(array_agg(present), '{{}}') as present,
        coalesce(array_agg(settled), '{{}}') as settled
    from (
        select account, {PRESENT} as present, settled from standings
        where board = $1 and {UNSETTLED} limit $3
    ) rows
) unsettled
"""
"""What Redis has to be asked and corrected with: its tag, and the rows that it does not follow."""

PLAYERS = f"""
select (select tag from boards where board = $1) as tag, present, settled,
    player.name::text as name, player.avatar::text as avatar
from unnest($2::text[]) with ordinality asked (account, number)
left join lateral (
    select settled, {PRESENT} as present from standings
    where account = asked.account and board = $1 limit 1
) standing on true
{_player("asked.account")}
order by number
"""

ADD_BOARD = """
insert into boards (board, tag, bounds, above, members, moved, counted_at_ms)
values ($1, $2, '{}', '{}', 0, 0, $3) on conflict do nothing
"""
LOCK_BOARD = "select * from boards where board = $1 for update"
LOCK_FREE_BOARD = f"{LOCK_BOARD} skip locked"
READ_TAG = "select tag from boards where board = $1"
READ_BOARD_COUNTS = "select * from boards where board = $1"
LIST_BOARDS = f"select board from boards union select board from standings where {UNSETTLED}"
UNSETTLED_BOARDS = f"select distinct board from standings where {UNSETTLED}"

TAKE_UNSETTLED = f"""
select account, {PRESENT} as present, settled, score = 0 and not listed as nothing from standings
where board = $1 and {UNSETTLED} limit $2 for update skip locked
"""
SETTLE = """
update standings s set settled = x.settled
from unnest($2::text[], $3::bigint[]) x (account, settled)
where s.account = x.account and s.board = $1
"""
SAVE_COUNTS = """
update boards set tag = $2, bounds = $3, above = $4, members = $5, moved = $6, counted_at_ms = $7
where board = $1
"""

_SETTLED = f"""
select account, settled from standings where board = $1 and listed and settled is not null
union all
select account, settled from standings
where board = $1 and not listed and settled is not null and {UNSETTLED}
"""
"""All settled scores of a board, by its two indexes."""
BOUNDS = f"""
select percentile_disc($2::float8[]) within group (order by settled) as bounds
from ({_SETTLED}) counted
"""
COUNT_SETTLED = f"""
select width_bucket(settled, $2::bigint[]) as bucket, count(*) as accounts
from ({_SETTLED}) counted group by 1
"""
READ_SETTLED = _SETTLED

DROP_UNCOUNTED = "delete from standings where account = $1 and settled is null"
MARK_FORGOTTEN = "update standings set score = 0, listed = false where account = $1"
DROP_ALL = "delete from standings where board = $1 and account = any($2)"

PRUNE = """
delete from standings where ctid = any(array(
    select ctid from standings where board = $1 limit $2
))
"""
DROP_BOARD = "delete from boards where board = $1"

ADD_SECRET = "insert into secrets (name, value) values ($1, $2) on conflict do nothing"
READ_SECRET = "select value from secrets where name = $1"
