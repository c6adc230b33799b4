"""The figures of a run as tables and as JSON, with the aims beside them."""

import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from app.compiled import is_compiled
from bench.meters import PROCESSORS
from bench.run import Measured, Result, now_text
from bench.workloads import MERGE_SHARE, WORKLOADS

QUIET_SHARE = 0.05
"""Of the machine: what others may take before the figures are called disturbed."""


class Ratio(msgspec.Struct):
    """A ratio of two rates of one round, the median of all rounds, and the aim."""

    of: str
    value: float
    aim: float | None


def middle(rounds: list[Measured], figure: Callable[[Measured], float]) -> float:
    return median(figure(measured) for measured in rounds)


def ratios(result: Result) -> dict[str, list[Ratio]]:
    """Each round is compared with pgbench of the same round, then the median is taken."""
    found: dict[str, list[Ratio]] = {}
    for work in WORKLOADS:
        rounds = result.rounds.get(work.name)
        if rounds:
            value = middle(rounds, lambda one: one.documents_per_s / one.reference_per_s)
            found[work.name] = [Ratio(f"pgbench {work.reference}", value, work.share)]
    base = result.rounds.get("W1")
    for name, aim in (("W1-merge", MERGE_SHARE), ("W1-id", None)):
        if base and result.rounds.get(name):
            pairs = zip(result.rounds[name], base, strict=True)
            value = median(one.documents_per_s / plain.documents_per_s for one, plain in pairs)
            found[name].append(Ratio("W1", value, aim))
    return found


def machine() -> dict[str, Any]:
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "processors": PROCESSORS,
        "memory_gib": round(int(memory) / 2**20, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiled": is_compiled(),
        "at": now_text(),
    }


def described(facts: dict[str, Any]) -> str:
    """What the figures were measured on, in a line."""
    code = "Compiled code" if facts["compiled"] else "Plain Python"
    return f"{code} on {facts['processor']} × {facts['processors']}, {facts['memory_gib']} GiB."


def to_json(result: Result) -> bytes:
    report = {"machine": machine(), "ratios": ratios(result), "result": result}
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def show(result: Result, out: Console) -> None:
    """Two tables: the rates with their aims, and what they cost."""
    out.print(_rates(result))
    out.print(_costs(result))
    options = result.options
    out.print(
        f"Generator: {result.generator}. {options.rounds} rounds of {options.seconds:g} s, "
        f"{options.workers} worker(s), {options.accounts} accounts. Memory of the server: "
        f"{result.memory_before_bytes / 1e6:.0f} MB before, {result.memory_bytes / 1e6:.0f} MB "
        f"after. {described(machine())}"
    )
    worst = max(one.others_share for rounds in result.rounds.values() for one in rounds)
    if worst > QUIET_SHARE:
        out.print(
            f"[bold yellow]Disturbed: other processes took up to {worst:.0%} of the machine; "
            "measure again when it is quiet."
        )


def _rates(result: Result) -> Table:
    table = Table(title="Rates: median of the rounds; ratios within each round")
    for name in ("Work", "requests/s", "documents/s", "p50 ms", "p99 ms", "ratio to", "is", "aim"):
        table.add_column(name, justify="left" if name in ("Work", "ratio to") else "right")
    references: dict[str, list[Measured]] = {}
    for work in WORKLOADS:
        references.setdefault(work.reference, result.rounds.get(work.name, []))
    for name, rounds in references.items():
        if rounds:
            rate = f"{middle(rounds, lambda one: one.reference_per_s):,.0f}"
            table.add_row(f"[dim]pgbench {name}", "", f"[dim]{rate}")
    for name, compared in ratios(result).items():
        rounds = result.rounds[name]
        figures = [
            f"{middle(rounds, lambda one: one.load.requests / one.load.seconds):,.0f}",
            f"{middle(rounds, lambda one: one.documents_per_s):,.0f}",
            f"{middle(rounds, lambda one: one.load.p50_ms):.1f}",
            f"{middle(rounds, lambda one: one.load.p99_ms):.1f}",
        ]
        for ratio in compared:
            table.add_row(name, *figures, ratio.of, f"{ratio.value:.3f}", _aim(ratio))
            name, figures = "", [""] * 4
    return table


def _aim(ratio: Ratio) -> str:
    if ratio.aim is None:
        return ""
    colour = "green" if ratio.value >= ratio.aim else "red"
    return f"[{colour}]≥ {ratio.aim:g} {'met' if ratio.value >= ratio.aim else 'missed'}"


def _costs(result: Result) -> Table:
    table = Table(title="Costs: per request; WAL bytes per document; share of HOT updates")
    table.add_column("Work")
    headings = ("server ms", "PostgreSQL ms", "generator ms", "others", "commits", "WAL bytes")
    tables = ("heads", "documents", "revisions")
    for name in (*headings, *(f"HOT {table}" for table in tables)):
        table.add_column(name, justify="right")
    for name, rounds in result.rounds.items():
        wal = [one.wal_bytes for one in rounds if one.wal_bytes is not None]
        hot = [[one.hot[key] for one in rounds if key in one.hot] for key in tables]
        table.add_row(
            name,
            f"{middle(rounds, lambda one: one.server_ms):.3f}",
            f"{middle(rounds, lambda one: one.postgres_ms):.3f}",
            f"{middle(rounds, lambda one: one.generator_ms):.3f}",
            f"{middle(rounds, lambda one: one.others_share):.0%}",
            f"{middle(rounds, lambda one: one.commits):.3f}",
            f"{median(wal):,.0f}" if wal else "",
            *(f"{median(shares):.1%}" if shares else "" for shares in hot),
        )
    return table
