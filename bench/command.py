"""`syncline bench`: what Syncline reaches on this machine, against its own database."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console

from bench import report
from bench.generators import FailedRun, Generator, choose
from bench.run import Options, run
from bench.workloads import WORKLOADS

err = Console(stderr=True)


def say(text: str) -> None:
    err.print(text, highlight=False, markup=False)


@click.group(
    invoke_without_command=True,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.option("--seconds", default=10.0, help="Length of a measured round.")
@click.option("--warm-up", default=2.0, help="Seconds of load before each measured round.")
@click.option("--rounds", default=3, help="Rounds, of which the median counts.")
@click.option("--accounts", default=2_000, help="Accounts of each kind.")
@click.option("--workers", default=1, help="Processes of the service.")
@click.option("--only", default="", help="Workloads to run, such as W1,R1; empty: all.")
@click.option("--generator", default="auto", type=click.Choice(["auto", "wrk", "python"]))
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write figures.")
@click.pass_context
def main(
    context: click.Context,
    seconds: float,
    warm_up: float,
    rounds: int,
    accounts: int,
    workers: int,
    only: str,
    generator: str,
    file: Path | None,
) -> None:
    """Measures a fresh service on a fresh, durable PostgreSQL, both removed afterwards.

    Without a command it runs the workloads, beside pgbench on the same database.
    """
    if context.invoked_subcommand is not None:
        return
    names = tuple(name for name in only.split(",") if name)
    unknown = set(names) - {work.name for work in WORKLOADS}
    if unknown:
        raise click.BadParameter(f"there is no workload {', '.join(sorted(unknown))}")
    options = Options(seconds, warm_up, rounds, accounts, workers, names)
    say_load()
    try:
        result = run(options, chosen(generator), say)
    except FailedRun as failure:
        fail(failure)
    report.show(result, Console(width=None if sys.stdout.isatty() else 120))
    if file is not None:
        file.write_bytes(report.to_json(result))


def say_load() -> None:
    load_1, load_5, _ = os.getloadavg()
    say(f"Load of this machine beforehand: {load_1:.2f} (1 min), {load_5:.2f} (5 min).")


def chosen(name: str) -> Generator:
    """The generator of that name, said aloud, since the figures depend on it."""
    generator = choose(name)
    say(f"Requests come from: {generator.name}.")
    return generator


def fail(failure: FailedRun) -> NoReturn:
    err.print(f"FAILED, no figures: {failure}", style="bold red", markup=False)
    sys.exit(1)
