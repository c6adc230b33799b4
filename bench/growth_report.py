"""The figures of growth as tables, as JSON and as a chart."""

from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from bench.growth import WORKS, WRITE, Growth, Step
from bench.plot import line_chart
from bench.report import QUIET_SHARE, described, machine, middle
from bench.run import Measured

AIM = 0.10
"""A write at the largest size may cost so much more than at the smallest."""


def to_json(result: Growth) -> bytes:
    report = {"machine": machine(), "write_cost_ratio": write_ratio(result), "result": result}
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def cost_ms(rounds: list[Measured]) -> float:
    """Processor time of the service and of PostgreSQL together, a request."""
    return middle(rounds, lambda one: one.server_ms + one.postgres_ms)


def write_ratio(result: Growth) -> float:
    """What a write costs at the largest size, as a multiple of that at the smallest."""
    first, last = result.steps[0], result.steps[-1]
    return cost_ms(last.rounds[WRITE.name]) / cost_ms(first.rounds[WRITE.name])


def to_svg(result: Growth) -> str:
    return line_chart(
        "Processor time of a request as documents grow",
        "documents",
        "ms, service and PostgreSQL",
        [step.documents for step in result.steps],
        {
            work.name: [cost_ms(step.rounds[work.name]) for step in result.steps]
            for work in reversed(WORKS)
        },
    )


def show(result: Growth, out: Console) -> None:
    out.print(_costs(result))
    out.print(_disk(result))
    ratio, options = write_ratio(result), result.options
    colour = "green" if ratio <= 1 + AIM else "red"
    out.print(
        f"A write at {result.steps[-1].documents:,} documents costs [{colour}]{ratio:.2f}[/] of "
        f"what it costs at {result.steps[0].documents:,} (aim: ≤ {1 + AIM:.2f})."
    )
    out.print(
        f"Generator: {result.generator}. {options.rounds} rounds of {options.seconds:g} s. "
        + described(machine())
    )
    worst = max(
        one.others_share
        for step in result.steps
        for rounds in step.rounds.values()
        for one in rounds
    )
    if worst > QUIET_SHARE:
        out.print(
            f"[bold yellow]Disturbed: other processes took up to {worst:.0%} of the machine; "
            "measure again when it is quiet."
        )


def _costs(result: Growth) -> Table:
    table = Table(
        title="Medians; ms of processor time a request; WAL and whole pages in it a write; "
        "heap-only updates of documents"
    )
    headings = (
        *("requests/s", "p50 ms", "p99 ms", "service", "PostgreSQL", "together"),
        *("WAL bytes", "pages", "HOT"),
    )
    for name in ("Documents", "Work", *headings):
        table.add_column(name, justify="left" if name == "Work" else "right")
    for step in result.steps:
        for number, work in enumerate(WORKS):
            rounds = step.rounds[work.name]
            table.add_row(
                "" if number else f"{step.documents:,}",
                work.name,
                f"{middle(rounds, lambda one: one.load.requests / one.load.seconds):,.0f}",
                f"{middle(rounds, lambda one: one.load.p50_ms):.1f}",
                f"{middle(rounds, lambda one: one.load.p99_ms):.1f}",
                f"{middle(rounds, lambda one: one.server_ms):.3f}",
                f"{middle(rounds, lambda one: one.postgres_ms):.3f}",
                f"{cost_ms(rounds):.3f}",
                *_of_writes(rounds),
            )
    return table


def _of_writes(rounds: list[Measured]) -> tuple[str, str, str]:
    wal = [one.wal_bytes for one in rounds if one.wal_bytes is not None]
    images = [one.page_images for one in rounds if one.page_images is not None]
    hot = [one.hot["documents"] for one in rounds if "documents" in one.hot]
    return (
        f"{median(wal):,.0f}" if wal else "",
        f"{median(images):.2f}" if images else "",
        f"{median(hot):.1%}" if hot else "",
    )


def _disk(result: Growth) -> Table:
    table = Table(title="Bytes on disk a document; the service's memory after the load")
    names = [name for name, one in result.steps[-1].bytes.items() if one.table + one.indexes >= 10]
    names.sort(key=lambda name: -_of_table(result.steps[-1], name))
    for name in ("Documents", "all", *names, "indexes", "service MB", "filled in s"):
        table.add_column(name, justify="right")
    for step in result.steps:
        table.add_row(
            f"{step.documents:,}",
            f"{step.bytes_per_document:,.0f}",
            *(f"{_of_table(step, name):,.0f}" for name in names),
            f"{sum(one.indexes for one in step.bytes.values()):,.0f}",
            f"{step.memory_bytes / 1e6:.0f}",
            f"{step.fill_s:.0f}",
        )
    return table


def _of_table(step: Step, name: str) -> float:
    return step.bytes[name].table + step.bytes[name].indexes
