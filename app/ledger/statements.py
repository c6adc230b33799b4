"""The SQL of the ledger; WRITES are parts of the one statement that writes a batch."""

READ_SEEN = """
select e.account, e.id, e.digest, e.effects::text, e.occurred_at_ms
from unnest($2::text[], $3::uuid[]) w (account, id)
cross join lateral (
    select * from events where account = w.account and id = w.id offset 0
) e
where e.account = any($1)
"""
READ_TOTALS = """
select account, name, amount from totals
where account = any($1) and (strpos(name, ':') = 0 or name = any($2))
"""
READ_LEVELS = """
select level, version, min_correct, xp_reward, repeat from levels
where version = (select max(version) from catalogues) and level = any($1)
"""

WRITES = {
    "events_recorded": """
insert into events (account, id, type, payload, digest, effects, device, occurred_at_ms,
                    claimed_at_ms, received_at_ms)
select h.account, w.id, w.type, w.payload::json, w.digest, w.effects::json, w.device,
       w.occurred_at_ms, w.claimed_at_ms, w.received_at_ms
from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
            $8::bigint[], $9::bigint[], $10::bigint[])
     w (account, id, type, payload, digest, effects, device, occurred_at_ms, claimed_at_ms,
        received_at_ms)
join written h on h.account = w.account
""",
    "totals_changed": """
insert into totals (account, name, amount)
select h.account, w.name, w.amount
from unnest($1::text[], $2::text[], $3::bigint[]) w (account, name, amount)
join written h on h.account = w.account
on conflict (account, name) do update set amount = excluded.amount
""",
    "standings_changed": """
insert into standings (account, board, score, listed)
select h.account, w.board, w.score, w.listed
from unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[]) w (account, board, score, listed)
join written h on h.account = w.account
on conflict (account, board) do update set score = excluded.score, listed = excluded.listed
""",
    "standings_relisted": """
update standings s set listed = w.listed
from unnest($1::text[], $2::boolean[], $3::text[]) w (account, listed, scored)
join written h on h.account = w.account
where s.account = w.account and s.account = any($1) and s.listed <> w.listed
  and not s.board = any(string_to_array(w.scored, ' '))
""",
}
"""`scored`: the boards, apart by spaces, that `standings_changed` writes in the same statement,
where no row may be written twice."""
