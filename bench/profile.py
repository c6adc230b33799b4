"""Where the service's time goes: `python -m bench.profile --work W1` (needs py-spy).

py-spy samples the running service from outside. Each sample counts for the innermost frame
that belongs to one of the parts below; C code, such as msgspec's, for the Python that calls it.
"""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

from bench import meters
from bench.generators import FailedRun, choose
from bench.run import Options, opened, prepare_load
from bench.workloads import WORKLOADS

RATE_HZ = 400
ABOVE_ALL = 0.75
"""Share of a function that only says that the service runs."""
PARTS = (
    ("merge_rules", "/merge_rules/"),
    ("app/documents/store.py", "app/documents/store.py"),
    ("app/documents, rest", "/app/documents/"),
    ("app/sync", "/app/sync/"),
    ("app/auth", "/app/auth/"),
    ("app/requests.py", "/app/requests.py"),
    ("app/database", "/app/database/"),
    ("app, rest", "/app/"),
    ("litestar", "/litestar/"),
    ("uvicorn", "/uvicorn/"),
    ("asyncpg", "asyncpg/"),
    ("sqlalchemy", "/sqlalchemy/"),
)
LOOP = "event loop and sockets (uvloop)"
_FRAME = re.compile(r"(\S+) \((.*):(\d+)\)$")


@click.command(context_settings={"show_default": True})
@click.option("--work", default="W1", type=click.Choice([work.name for work in WORKLOADS]))
@click.option("--seconds", default=10.0, help="How long to sample.")
@click.option("--top", default=30, help="Functions to list.")
@click.option("--py-spy", default="py-spy", help="The program.")
def main(work: str, seconds: float, top: int, py_spy: str) -> None:
    """Samples a fresh service under one workload; prints where its time goes."""
    program = shutil.which(py_spy)
    if program is None:
        raise click.ClickException("py-spy is not installed (pip install py-spy)")
    out = Console(width=110)
    stacks, server_us = _sample(work, seconds, program)
    total = sum(stacks.values())
    out.print(f"{work}: {total} samples at {RATE_HZ} Hz; {server_us:.0f} µs a request, sampled.")
    out.print(_parts(stacks, total, server_us))
    for title, counted in (("with callees", _inclusive(stacks)), ("alone", _alone(stacks))):
        table = Table("function", "share", "µs", title=f"Functions, {title}")
        for name, count in counted.most_common(top):
            share = count / total
            if share > ABOVE_ALL:
                continue
            table.add_row(name, f"{share:.1%}", f"{share * server_us:.0f}")
        out.print(table)


def _sample(name: str, seconds: float, program: str) -> tuple[Counter[tuple[str, ...]], float]:
    """Counts of stacks, outermost frame first, and processor time a request in µs."""
    (work,) = (work for work in WORKLOADS if work.name == name)
    generator = choose("auto")
    with opened(Options(), generator) as bench, TemporaryDirectory() as folder:
        url, process = bench.service.url, bench.service.process
        generator.run(prepare_load(bench, work), url, 2.0)
        plan = prepare_load(bench, work)
        file = Path(folder, "stacks")
        sampler = subprocess.Popen(
            [
                *(program, "record", "--pid", str(process), "--rate", str(RATE_HZ)),
                *("--duration", str(round(seconds)), "--format", "raw", "--full-filenames"),
                *("--output", str(file)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        before = meters.processor_s(process)
        load = generator.run(plan, url, seconds + 1.0)
        used = meters.processor_s(process) - before
        _, errors = sampler.communicate(timeout=60)
        if sampler.returncode != 0 or load.errors:
            raise FailedRun(f"{load.errors} failed requests; py-spy: {errors.decode()}")
        stacks: Counter[tuple[str, ...]] = Counter()
        for line in file.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            stacks[tuple(stack.split(";"))] += int(count)
        return stacks, used / load.requests * 1e6


def _parts(stacks: Counter[tuple[str, ...]], total: int, server_us: float) -> Table:
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[_part(stack)] += count
    table = Table("part", "share", "µs a request", title="By the innermost part")
    for part, count in counts.most_common():
        table.add_row(part, f"{count / total:.1%}", f"{count / total * server_us:.0f}")
    return table


def _part(stack: tuple[str, ...]) -> str:
    if "/asyncio/runners.py" in stack[-1]:
        return LOOP
    for frame in reversed(stack):
        for part, where in PARTS:
            if where in frame:
                return part
    return "rest"


def _inclusive(stacks: Counter[tuple[str, ...]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        for name in {_function(frame) for frame in stack}:
            counts[name] += count
    return counts


def _alone(stacks: Counter[tuple[str, ...]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[_function(stack[-1])] += count
    return counts


def _function(frame: str) -> str:
    """`function (file)`, without the line, and the file without where it is installed."""
    found = _FRAME.match(frame)
    if found is None:
        return frame
    path = found[2].rpartition("site-packages/")[2]
    return f"{found[1]} ({'/'.join(Path(path).parts[-3:])})"


if __name__ == "__main__":
    main()
