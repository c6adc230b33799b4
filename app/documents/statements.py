"""The SQL of documents. Arrays in, so that a batch of any size costs the same statements.

Every statement names the accounts beside the keys (`account = any($1)`), and every write is
joined to the heads that it found unchanged: so it stays on one shard where the tables are
spread by account.

What is asked for one by one is looked up one by one (`lateral`, which `offset 0` keeps as it is).
Left to choose, PostgreSQL reads all rows of the account where it takes them for few, and a
connection keeps the plan that was made while they were.
"""

import re
from functools import cache

from app.database.era import NEWEST_ERA
from app.ledger.statements import WRITES as LEDGER_WRITES

READ_HEADS = """
select account, seq, tag from heads where account = any($1)
"""
LOCK_HEADS = """
select account, seq, tag from heads where account = any($1) order by account for update
"""
FIND_HELD = """
with free as (select account from heads where account = any($1) for update skip locked)
select h.account, f.account is null as held
from heads h left join free f on f.account = h.account
where h.account = any($1)
"""
CREATE_HEADS = """
insert into heads (account, seq) select account, 0 from unnest($1::text[]) account
order by account on conflict (account) do nothing
"""
READ_DOCUMENTS = """
select d.account, d.key, d.version, d.epoch, d.epoch_version, d.folded_version, d.value::text,
       d.sidecar, d.rule, d.device, d.updated_at_ms
from unnest($2::text[], $3::text[]) w (account, key)
cross join lateral (
    select * from documents where account = w.account and key = w.key offset 0
) d
where d.account = any($1)
"""
READ_DOCUMENT = """
select account, key, version, epoch, epoch_version, folded_version, value::text, sidecar, rule,
       device, updated_at_ms
from documents where account = $1 and key = $2
"""
COUNT_DOCUMENTS = """
select account, count(*) as documents from documents where account = any($1) group by account
"""
READ_SEEN = """
select m.account, m.id, m.digest, m.number
from unnest($2::text[], $3::uuid[]) w (account, id)
cross join lateral (
    select * from mutations where account = w.account and id = w.id offset 0
) m
where m.account = any($1)
"""
READ_DEVICES = """
select d.account, d.device, d.last_mutation, d.accepted
from unnest($2::text[], $3::text[]) w (account, device)
cross join lateral (
    select * from devices where account = w.account and device = w.device offset 0
) d
where d.account = any($1)
"""
READ_BASES = """
select r.account, r.key, r.version, r.epoch, r.value::text, r.sidecar, r.rule, r.device,
       r.updated_at_ms, r.base
from unnest($2::text[], $3::text[], $4::bigint[]) w (account, key, version)
cross join lateral (
    select * from revisions
    where account = w.account and key = w.key and slot = w.version % $5 and version = w.version
    offset 0
) r
where r.account = any($1)
"""
READ_OWN_REVISIONS = """
select distinct on (r.account, r.key, r.device)
       r.account, r.key, r.device, r.version, r.base, r.proposed, r.value::text, r.sidecar, r.rule
from unnest($2::text[], $3::text[], $4::text[]) w (account, key, device)
cross join lateral (
    select * from revisions
    where account = w.account and key = w.key and device = w.device offset 0
) r
where r.account = any($1)
order by r.account, r.key, r.device, r.version desc
"""
READ_MADE_REVISIONS = """
select r.account, r.key, r.mutation, r.device, r.version, r.base, r.proposed, r.value::text,
       r.sidecar, r.rule
from unnest($2::text[], $3::text[], $4::uuid[]) w (account, key, mutation)
cross join lateral (
    select * from revisions
    where account = w.account and key = w.key and mutation = w.mutation offset 0
) r
where r.account = any($1)
"""
READ_MADE_PROPOSALS = """
select p.account, p.key, p.mutation, p.device, p.version, p.base, p.proposed
from unnest($2::text[], $3::text[], $4::uuid[]) w (account, key, mutation)
cross join lateral (
    select * from proposals
    where account = w.account and key = w.key and mutation = w.mutation offset 0
) p
where p.account = any($1)
"""
READ_EVICTED = """
select r.account, r.key, r.device, r.version, r.base, r.proposed, r.value::text, r.sidecar, r.rule,
       r.mutation
from unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) w (account, key, version, device)
cross join lateral (
    select * from revisions r
    where r.account = w.account and r.key = w.key and r.slot = w.version % $6
      and r.version < w.version and r.device <> w.device
      and not exists (
          select from revisions n
          where n.account = w.account and n.key = w.key and n.device = r.device
            and n.version > r.version
          offset 0
      )
      and not exists (
          select from proposals p
          where p.account = w.account and p.key = w.key and p.device = r.device
            and p.version >= r.version
          offset 0
      )
    offset 0
) r
where r.account = any($1)
"""
READ_PROPOSALS = """
select p.account, p.key, p.device, p.version, p.base, p.proposed
from unnest($2::text[], $3::text[], $4::text[]) w (account, key, device)
cross join lateral (
    select * from proposals
    where account = w.account and key = w.key and device = w.device offset 0
) p
where p.account = any($1)
"""
LIST_DOCUMENTS = """
select key, version, octet_length(value::text) as bytes, updated_at_ms
from documents where account = $1 and value is not null order by key collate "C"
"""
LIST_REVISIONS = """
select version, value is null as deleted, coalesce(octet_length(value::text), 0) as bytes,
       outcome, base, device, mutation, updated_at_ms
from revisions where account = $1 and key = $2 and version > $3 order by version desc
"""
READ_REVISION = """
select version, epoch, value::text, sidecar, rule, receipt, base, outcome, device, mutation,
       updated_at_ms
from revisions where account = $1 and key = $2 and version = any($3)
"""
PRUNE_MUTATIONS = """
delete from mutations where (account, id) in
    (select account, id from mutations where created_at_ms < $1 limit $2)
"""
PRUNE_PROPOSALS = """
delete from proposals where updated_at_ms < $1 and (account, key, device) in
    (select account, key, device from proposals where updated_at_ms < $1 limit $2)
"""
READ_SIDECAR_SIZES = """
select account, key, octet_length(sidecar) from documents
where (account, key) > ($1, $2) order by account, key limit $3
"""
READ_ALIVE = """
select device from devices where account = $1 and last_seen_ms >= $2
"""
READ_RULES = """
select pattern, fingerprint, definition from rules
"""
WRITE_RULES = """
insert into rules (pattern, fingerprint, definition, first_used_ms)
select w.pattern, w.fingerprint, w.definition, $4
from unnest($1::text[], $2::text[], $3::text[]) w (pattern, fingerprint, definition)
on conflict (pattern, fingerprint) do nothing
"""
HAS_DOCUMENTS_OF = """
select exists (select from documents where rule = $1)
"""
LIST_KEYS = """
select account, key from documents where (account, key) > ($1, $2) order by account, key limit $3
"""
COUNT_ALL = "select count(*) from documents"
READ_HISTORY = """
select version, epoch, value::text, sidecar, rule, proposed, base, outcome, device, mutation,
       updated_at_ms
from revisions where account = $1 and key = $2 order by version
"""

WRITES = {
    "written": """
update heads h set seq = w.seq, tag = w.tag
from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
     w (account, seq_before, tag_before, seq, tag)
where h.account = w.account and h.account = any($1)
  and h.seq = w.seq_before and h.tag = w.tag_before
returning h.account
""",
    "unwritten": """
select h.account
from unnest($1::text[], $2::bigint[], $3::bigint[]) w (account, seq, tag)
join heads h on h.account = w.account and h.seq = w.seq and h.tag = w.tag
where h.account = any($1)
""",
    "versions": """
select h.account, w.key, w.slot, w.version, w.last, w.seq, w.epoch, w.epoch_version,
       w.folded_version, w.value::json as value, w.sidecar, w.rule, w.proposed, w.receipt, w.base,
       w.outcome, w.device, w.mutation, w.updated_at_ms
from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::boolean[], $6::bigint[],
            $7::int[], $8::bigint[], $9::bigint[], $10::text[], $11::bytea[], $12::text[],
            $13::bytea[], $14::bytea[], $15::bigint[], $16::text[], $17::text[], $18::uuid[],
            $19::bigint[])
     w (account, key, slot, version, last, seq, epoch, epoch_version, folded_version, value,
        sidecar, rule, proposed, receipt, base, outcome, device, mutation, updated_at_ms)
join written h on h.account = w.account
""",
    "documents_written": """
insert into documents (account, key, version, seq, epoch, epoch_version, folded_version, value,
                       sidecar, rule, device, updated_at_ms)
select account, key, version, seq, epoch, epoch_version, folded_version, value, sidecar, rule,
       device, updated_at_ms
from versions where last
on conflict (account, key) do update set
    version = excluded.version, seq = excluded.seq, epoch = excluded.epoch,
    epoch_version = excluded.epoch_version, folded_version = excluded.folded_version,
    value = excluded.value, sidecar = excluded.sidecar, rule = excluded.rule,
    device = excluded.device, updated_at_ms = excluded.updated_at_ms
""",
    "revisions_written": """
insert into revisions (account, key, slot, version, epoch, value, sidecar, rule, proposed,
                       receipt, base, outcome, device, mutation, updated_at_ms)
select account, key, slot, version, epoch, value, sidecar, rule, proposed, receipt, base, outcome,
       device, mutation, updated_at_ms
from versions
on conflict (account, key, slot) do update set
    version = excluded.version, epoch = excluded.epoch, value = excluded.value,
    sidecar = excluded.sidecar, rule = excluded.rule, proposed = excluded.proposed,
    receipt = excluded.receipt, base = excluded.base, outcome = excluded.outcome,
    device = excluded.device, mutation = excluded.mutation, updated_at_ms = excluded.updated_at_ms
""",
    "documents_touched": """
update documents d
set sidecar = w.sidecar, rule = w.rule, folded_version = w.folded_version
from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[])
     w (account, key, sidecar, rule, folded_version)
join written h on h.account = w.account
where d.account = w.account and d.key = w.key
""",
    "revisions_touched": """
update revisions r
set sidecar = w.sidecar, rule = w.rule, proposed = coalesce(r.proposed, w.before)
from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::text[], $7::bytea[])
     w (account, key, slot, version, sidecar, rule, before)
join written h on h.account = w.account
where r.account = w.account and r.key = w.key and r.slot = w.slot and r.version = w.version
""",
    "proposals_written": """
insert into proposals as p (account, key, device, version, base, proposed, mutation, updated_at_ms)
select h.account, w.key, w.device, w.version, w.base, w.proposed, w.mutation, w.updated_at_ms
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[],
            $7::uuid[], $8::bigint[])
     w (account, key, device, version, base, proposed, mutation, updated_at_ms)
join written h on h.account = w.account
on conflict (account, key, device) do update set
    version = excluded.version, base = excluded.base, proposed = excluded.proposed,
    mutation = excluded.mutation, updated_at_ms = excluded.updated_at_ms
where p.version <= excluded.version
""",
    "mutations_seen": """
insert into mutations (account, id, key, digest, number, created_at_ms)
select h.account, w.id, w.key, w.digest, w.number, w.created_at_ms
from unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[], $5::bigint[], $6::bigint[])
     w (account, id, key, digest, number, created_at_ms)
join written h on h.account = w.account
""",
    "devices_seen": """
insert into devices (account, device, last_mutation, accepted, first_seen_ms, last_seen_ms)
select w.account, w.device, w.last_mutation, w.accepted, w.seen_ms, w.seen_ms
from unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[])
     w (account, device, last_mutation, accepted, seen_ms)
join written h on h.account = w.account
on conflict (account, device) do update set
    last_mutation = coalesce(excluded.last_mutation, devices.last_mutation),
    accepted = greatest(excluded.accepted, devices.accepted),
    last_seen_ms = excluded.last_seen_ms
""",
}
"""The parts of the one statement that writes a batch. Each takes arrays of its own."""

PARTS = {**WRITES, **LEDGER_WRITES}

_PARAMETER = re.compile(r"\$(\d+)")


_VERSIONS = ("versions", "documents_written", "revisions_written")


@cache
def write(parts: tuple[str, ...]) -> str:
    """One statement of these parts, their parameters one after the other.

    It gives the accounts whose head was as expected, each with the era of the database; of all
    others nothing is written.
    """
    queries, taken = [], 0
    for part in parts:
        for name in _VERSIONS if part == "versions" else (part,):
            text, shift = PARTS[name], taken
            numbers = [int(number) for number in _PARAMETER.findall(text)]
            text = _PARAMETER.sub(lambda found: f"${int(found[1]) + shift}", text)  # noqa: B023
            queries.append(f"{name} as ({text})")
            taken += max(numbers, default=0)
    results = [
        f"select account, ({NEWEST_ERA}) from {name}"  # noqa: S608 - nothing from outside
        for name in ("written", "unwritten")
        if name in parts
    ]
    return f"with {', '.join(queries)} {' union all '.join(results)}"
