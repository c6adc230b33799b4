"""What autovacuum's settings are worth: `python -m bench.vacuum`.

The database alone, under the updates that the service makes, written as plain SQL: documents of
300 bytes and of 16 kB (which PostgreSQL keeps outside the row), full rings, devices, and ids of
mutations that come and are pruned. Once with PostgreSQL's defaults, once with the settings under
test; what counts is a share of each table, so small tables tell.
"""

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from app.database import embedded
from app.database.schema import AUTOVACUUM
from bench import meters
from bench.generators import FailedRun
from bench.meters import query
from bench.service import DATABASE_OPTIONS, Database, database_in, fresh_folder, fresh_service

NAP_S = 5
"""Autovacuum looks so often here, and each minute by default: so minutes show what hours would."""
SMALL, LARGE, IDS, RING = 5_000, 1_000, 50_000, 32
SAMPLE_S = 5.0
PRUNE_S = 5.0
TABLES = ("heads", "documents", "revisions", "devices", "proposals", "mutations")
TOAST = "toast.autovacuum_vacuum_scale_factor"
ROWS = "autovacuum_vacuum_scale_factor"

FILL = f"""
insert into heads (account, seq) select 'a-' || n, 1 from generate_series(1, {SMALL}) n;
insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, rule,
                       updated_at_ms)
select 'a-' || n, 'small', 1, 1, 0, 0, to_json(repeat('x', 300)), ''::bytea, 'r', 1
from generate_series(1, {SMALL}) n;
create function large() returns json language sql volatile as $$
    select to_json(string_agg(md5(random()::text), '')) from generate_series(1, 512) $$;
insert into documents (account, key, version, seq, epoch, epoch_version, value, sidecar, rule,
                       updated_at_ms)
select 'a-' || n, 'large', 1, 1, 0, 0, large(), ''::bytea, 'r', 1
from generate_series(1, {LARGE}) n;
insert into revisions (account, key, slot, version, epoch, value, sidecar, rule, outcome,
                       updated_at_ms)
select 'a-' || n, 'small', slot, 1, 0, to_json(repeat('x', 300)), ''::bytea, 'r', 'applied', 1
from generate_series(1, {SMALL // 10}) n, generate_series(0, {RING - 1}) slot;
insert into devices (account, device, first_seen_ms, last_seen_ms)
select 'a-' || n, 'd', 1, 1 from generate_series(1, {SMALL}) n;
insert into mutations (account, id, key, digest, created_at_ms)
select 'a-' || (n % {SMALL} + 1), gen_random_uuid(), 'small', 'digest-of-16-byt'::bytea, n
from generate_series(1, {IDS}) n;
insert into proposals (account, key, device, version, proposed, updated_at_ms)
select 'a-' || n, 'small', 'd', 1, repeat('x', 300)::bytea, 1
from generate_series(1, {SMALL // 10}) n;
create sequence writes start {IDS + 1};
"""
WRITE_SMALL = f"""
\\set a random(1, {SMALL})
begin;
update heads set seq = seq + 1 where account = 'a-' || :a;
update documents set version = version + 1, seq = seq + 1, value = to_json(repeat('y', 300))
where account = 'a-' || :a and key = 'small';
update revisions set version = version + {RING}, value = to_json(repeat('y', 300))
where account = 'a-' || (:a % {SMALL // 10} + 1) and key = 'small' and slot = :a % {RING};
update devices set last_seen_ms = last_seen_ms + 1 where account = 'a-' || :a and device = 'd';
update proposals set version = version + 1, proposed = repeat('y', 300)::bytea
where account = 'a-' || (:a % {SMALL // 10} + 1) and key = 'small' and device = 'd';
insert into mutations (account, id, key, digest, created_at_ms)
values ('a-' || :a, gen_random_uuid(), 'small', 'digest-of-16-byt'::bytea, nextval('writes'));
commit;
"""
WRITE_LARGE = f"""
\\set a random(1, {LARGE})
update documents set version = version + 1, seq = seq + 1, value = large()
where account = 'a-' || :a and key = 'large';
"""
PRUNE = f"""
delete from mutations where created_at_ms < (select last_value from writes) - {IDS}
"""
STATE = """
select c.relname::text, c.reltoastrelid = 0, pg_relation_size(c.oid), s.n_dead_tup, s.n_live_tup,
       s.n_tup_upd, s.n_tup_hot_upd, s.autovacuum_count, pg_indexes_size(c.oid)
from pg_class c join pg_stat_all_tables s on s.relid = c.oid
where c.relnamespace = 'public'::regnamespace and c.relname = any($1)
union all
select p.relname || ' (toast)', true, pg_relation_size(c.oid), s.n_dead_tup, s.n_live_tup,
       s.n_tup_upd, s.n_tup_hot_upd, s.autovacuum_count, pg_indexes_size(c.oid)
from pg_class p join pg_class c on c.oid = p.reltoastrelid
join pg_stat_all_tables s on s.relid = c.oid
where p.relnamespace = 'public'::regnamespace and p.relname = 'documents'
order by 1
"""


class Seen(msgspec.Struct):
    """One table: bytes at first and at the greatest, rows, updates, runs of autovacuum."""

    first_bytes: int
    greatest_bytes: int
    first_index_bytes: int
    greatest_index_bytes: int
    greatest_dead_share: float
    updates: int
    heap_only: int
    runs: int


class Variant(msgspec.Struct):
    tables: dict[str, Seen]
    postgres_s: float
    transactions: int
    latency_ms: float


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=120.0, help="Load under each of the settings.")
@click.option("--rate", default=500, help="Writes a second, the same for both.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write figures.")
@click.option("--everywhere", type=float, help="This scale factor on every table, not ours.")
def main(seconds: float, rate: int, file: Path | None, everywhere: float | None) -> None:
    """Compares PostgreSQL's defaults with the settings of app/database/schema.py."""
    out = Console(width=120)
    tried: Mapping[str, Mapping[str, float]] = AUTOVACUUM
    if everywhere is not None:
        tried = {name: {ROWS: everywhere, TOAST: everywhere} for name in TABLES}
    found = {
        "defaults": _measure({}, seconds, rate),
        "ours" if everywhere is None else str(everywhere): _measure(tried, seconds, rate),
    }
    out.print(_table(found))
    for name, one in found.items():
        out.print(
            f"{name}: {one.transactions:,} transactions, {one.latency_ms:.1f} ms each; PostgreSQL "
            f"took {one.postgres_s:.1f} s of processor time."
        )
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def _measure(settings: Mapping[str, Mapping[str, float]], seconds: float, rate: int) -> Variant:
    options = {**DATABASE_OPTIONS, "autovacuum_naptime": f"{NAP_S}s"}
    with fresh_folder() as folder, database_in(folder, options) as database:
        with fresh_service(database, 1):
            pass  # it migrates
        for statement in FILL.split(";\n"):
            if statement.strip():
                query(database.url, statement)
        for name in TABLES:
            for option in (ROWS, TOAST):
                query(database.url, f"alter table {name} reset ({option})")
            for option, value in settings.get(name, {}).items():
                query(database.url, f"alter table {name} set ({option} = {value})")
        query(database.url, "vacuum (analyze)")
        return _load(database, seconds, rate)


def _load(database: Database, seconds: float, rate: int) -> Variant:
    first = {row[0]: row for row in query(database.url, STATE, TABLES)}
    tables = {
        name: Seen(row[2], row[2], row[8], row[8], 0.0, 0, 0, 0) for name, row in first.items()
    }
    before = meters.processor_s(database.process)
    with TemporaryDirectory(prefix="syncline-bench-") as folder:
        Path(folder, "small.sql").write_text(WRITE_SMALL)
        Path(folder, "large.sql").write_text(WRITE_LARGE)
        process = subprocess.Popen(
            [
                *(str(embedded.binaries() / "pgbench"), "-n", "-M", "prepared", "-c", "4"),
                *("-R", str(rate), "-T", str(round(seconds))),
                *("-f", "small.sql@9", "-f", "large.sql@1", database.url),
            ],
            cwd=folder,
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        began = pruned = time.monotonic()
        while process.poll() is None:
            time.sleep(SAMPLE_S if time.monotonic() - began < seconds else 0.5)
            if time.monotonic() - pruned >= PRUNE_S:
                query(database.url, PRUNE)
                pruned = time.monotonic()
            _look(database.url, first, tables)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode != 0:
        raise FailedRun(f"pgbench failed: {output}")
    told = {
        name.strip(): rest.split()
        for name, _, rest in (line.partition(" = ") for line in output.splitlines())
    }
    done = next(
        line.rpartition(":")[2] for line in output.splitlines() if "actually processed" in line
    )
    return Variant(
        tables,
        meters.processor_s(database.process) - before,
        int(done.split("/")[0]),
        float(told["latency average"][0]),
    )


def _look(url: str, first: Mapping[str, Any], tables: Mapping[str, Seen]) -> None:
    for row in query(url, STATE, TABLES):
        seen, then = tables[row[0]], first[row[0]]
        seen.greatest_bytes = max(seen.greatest_bytes, row[2])
        seen.greatest_index_bytes = max(seen.greatest_index_bytes, row[8])
        seen.greatest_dead_share = max(seen.greatest_dead_share, row[3] / max(1, row[4]))
        seen.updates, seen.heap_only = row[5], row[6]
        seen.runs = row[7] - then[7]


def _table(found: Mapping[str, Variant]) -> Table:
    table = Table(title="Greatest during the load; growth of the table and of its indexes")
    headings = ("growth", "indexes", "dead rows", "HOT", "autovacuums")
    for name in ("Table", "Settings", *headings):
        table.add_column(name, justify="left" if name in ("Table", "Settings") else "right")
    for name in found["defaults"].tables:
        for variant, one in found.items():
            seen = one.tables[name]
            table.add_row(
                name if variant == "defaults" else "",
                variant,
                f"{seen.greatest_bytes / max(1, seen.first_bytes) - 1:+.0%}",
                f"{seen.greatest_index_bytes / max(1, seen.first_index_bytes) - 1:+.0%}",
                f"{seen.greatest_dead_share:.1%}",
                f"{seen.heap_only / seen.updates:.1%}" if seen.updates else "",
                str(seen.runs),
            )
    return table


if __name__ == "__main__":
    main()
