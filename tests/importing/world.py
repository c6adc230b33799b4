"""An old database, a Syncline, and imports from the one into the other."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from rich.console import Console

from app.clock import Clock, system_clock
from app.import_command import Order, run_import
from app.operations.audit import audit
from app.operations.importing.mapping import Mapping, load_mapping, read_mapping
from app.settings import Settings
from tests.conftest import SECRET, Cluster

REPOSITORY = Path(__file__).parents[2]


@dataclass
class World:
    """Both databases, and a folder for files."""

    old: str
    new: str
    folder: Path

    @classmethod
    def on(cls, cluster: Cluster, folder: Path) -> "World":
        return cls(cluster.clone(), cluster.clone(), folder)

    def sql(self, statement: str, *arguments: Any) -> list[Any]:
        """Asks the old database."""
        return asyncio.run(_fetch(self.old, statement, *arguments))

    def ask(self, statement: str, *arguments: Any) -> list[Any]:
        """Asks Syncline's."""
        return asyncio.run(_fetch(self.new, statement, *arguments))

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def bring_in(
        self,
        mapping: str | Mapping,
        *places: str,
        clock: Clock = system_clock,
        settings: dict[str, Any] | None = None,
        terminal: bool = False,
        **options: Any,
    ) -> "Outcome":
        """An import in this process, from the old database if no place is named."""
        out = io.StringIO()
        loaded = load_mapping(mapping) if isinstance(mapping, str) else mapping
        given: dict[str, Any] = {
            "table": None,
            "rejects": self.folder / "rejects.jsonl",
            "dry_run": False,
            "afresh": False,
            **options,
        }
        order = Order(mapping=loaded, places=places or (self.old,), **given)
        made = Settings(database_url=self.new, jwt_secret=SECRET, **(settings or {}))
        console = Console(file=out, width=200, force_terminal=terminal, color_system=None)
        complete = asyncio.run(run_import(made, self.new, order, console, clock))
        return Outcome(complete, out.getvalue(), rejected(order.rejects))

    def process(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """An import as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli", "import", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "SYNCLINE_DATABASE_URL": self.new,
                "SYNCLINE_JWT_SECRET": SECRET,
                "COLUMNS": "200",
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    # What is there ----------------------------------------------------------------------------

    def documents(self, account: str) -> dict[str, Any]:
        """The values of an account's documents."""
        rows = self.ask("select key, value::text from documents where account = $1", account)
        return {row[0]: None if row[1] is None else json.loads(row[1]) for row in rows}

    def totals(self, account: str) -> dict[str, int]:
        rows = self.ask("select name, amount from totals where account = $1", account)
        return dict(map(tuple, rows))

    def everything(self) -> list[Any]:
        """All that an import writes, without the times of writing and what is random."""
        kept = {
            "heads": "account, seq",
            "documents": "account, key, version, seq, epoch, value::text, sidecar, rule, device",
            "revisions": "account, key, version, value::text, sidecar, outcome, device, mutation",
            "mutations": "account, id, key, digest, created_at_ms",
            "events": "account, id, type, payload::text, effects::text, occurred_at_ms",
            "totals": "account, name, amount",
            "standings": "account, board, score, listed",
        }
        return [
            (table, sorted(map(repr, map(tuple, self.ask(f"select {columns} from {table}")))))
            for table, columns in kept.items()
        ]

    def adds_up(self) -> bool:
        """What `syncline audit` says: totals = events, versions = revisions, heads = changes."""
        out = io.StringIO()
        findings = asyncio.run(audit(self.new, None, Console(file=out)))
        assert not findings.differences, out.getvalue()
        return findings.accounts > 0


@dataclass(frozen=True)
class Outcome:
    complete: bool
    said: str
    rejected: Sequence[dict[str, Any]]

    @property
    def codes(self) -> list[str]:
        return [part["code"] for one in self.rejected for part in one["rejected"]]


def rejected(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def mapping(text: str) -> Mapping:
    return read_mapping(text.encode(), ".toml", "a test")


async def _fetch(url: str, statement: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        if not arguments and ";" in statement:
            await connection.execute(statement)
            return []
        rows: list[Any] = await connection.fetch(statement, *arguments)
        return rows
    finally:
        await connection.close()
