"""The database's own speed: pgbench on a table of its own, in the same database and run."""

import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from app.database import embedded
from bench.generators import CONNECTIONS, FailedRun
from bench.meters import query
from bench.workloads import KEYS, LESSONS

BATCH_ROWS = 50
DOCUMENT_BYTES = 300
_TEXT = "x" * (DOCUMENT_BYTES - 28)
_VALUE = f"""('{{"count":' || :count::text || ',"text":"{_TEXT}"}}')::json"""
_SET_COUNT = "\\set count random(1, 1000000000)"

TABLES = """
create table {name} (account text, key text, version bigint not null, value json not null,
                     primary key (account, key)) with (fillfactor = 50)
"""
FILL = """
insert into {name}
select 'account-' || lpad(a::text, 5, '0'), 'key-' || lpad(k::text, 2, '0'), 1,
       ('{{"count":1,"text":"' || repeat('x', {text}) || '"}}')::json
from generate_series(0, {accounts} - 1) a, generate_series(1, {keys}) k
"""


def scripts(accounts: int) -> dict[str, str]:
    """The pgbench script of each reference; a batch is the documents of neighbouring accounts."""
    together = BATCH_ROWS // LESSONS
    one = f"\\set account random(0, {accounts - 1})\n\\set key random(1, {len(KEYS)})\n"
    names = "'account-' || lpad({}::text, 5, '0'), 'key-' || lpad({}::text, 2, '0')"
    this = names.format(":account", ":key").split(", 'key")
    conflict = "on conflict (account, key) do update set version = {}.version + 1, "
    return {
        "upsert": f"{one}{_SET_COUNT}\ninsert into bench_documents values "
        f"({names.format(':account', ':key')}, 1, {_VALUE}) "
        f"{conflict.format('bench_documents')}value = excluded.value;\n",
        "read": f"{one}select version, value from bench_documents "
        f"where account = {this[0]} and key = 'key{this[1]};\n",
        "batch": f"\\set first {together} * random(0, {accounts // together - 1})\n{_SET_COUNT}\n"
        f"insert into bench_batches select {names.format('a', 'k')}, 1, {_VALUE} "
        f"from generate_series(:first::int, :first::int + {together - 1}) a, "
        f"generate_series(1, {LESSONS}) k order by a, k "
        f"{conflict.format('bench_batches')}value = excluded.value;\n",
    }


ROWS = {"upsert": 1, "read": 1, "batch": BATCH_ROWS}


def prepare(url: str, accounts: int) -> None:
    """Creates and fills the tables: the sizes are those of the service's documents."""
    for name, keys in (("bench_documents", len(KEYS)), ("bench_batches", LESSONS)):
        query(url, TABLES.format(name=name))
        query(url, FILL.format(name=name, text=len(_TEXT), accounts=accounts, keys=keys))
        query(url, f"vacuum analyze {name}")


def rate(url: str, name: str, accounts: int, seconds: float) -> float:
    """Rows a second of the script; prepared statements, 32 clients."""
    with TemporaryDirectory(prefix="syncline-bench-") as folder:
        script = Path(folder, "script.sql")
        script.write_text(scripts(accounts)[name])
        command = [str(embedded.binaries() / "pgbench"), "-n", "-M", "prepared"]
        finished = subprocess.run(
            [
                *(*command, "-c", str(CONNECTIONS), "-j", "1"),
                *("-T", str(max(1, round(seconds))), "-f", str(script), url),
            ],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^tps = ([0-9.]+)", finished.stdout, re.MULTILINE)
    failed = re.search(r"^number of failed transactions: 0 ", finished.stdout, re.MULTILINE)
    if finished.returncode != 0 or found is None or failed is None:
        raise FailedRun(f"pgbench failed: {finished.stdout}{finished.stderr}")
    return float(found[1]) * ROWS[name]
