"""Plants each bug and looks how soon the machine finds it: `python -m tests.simulation.hunt`."""

import contextlib
import io
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import structlog
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests import conftest
from tests.simulation.budgets import BUDGETS, Budget
from tests.simulation.bugs import BUGS
from tests.simulation.machine import Devices
from tests.simulation.model import Model
from tests.simulation.server import Server
from tests.simulation.service import bench
from tests.simulation.service_bugs import SERVICE_BUGS
from tests.simulation.world import SimulatedClock

NO_BUG = "(none)"

Prey = dict[str, Callable[[int], "Hunt"]]
"""By the name of a bug, what looks for it with a seed."""

_STEP = re.compile(r"^\s*state\.(?!begin|teardown)\w+\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Hunt:
    """What came of looking for one bug once."""

    found_at: int | None
    """The example that failed first, counted from 1; None if all passed."""
    steps: int | None
    """The steps of the shrunk one; None if it was not shrunk."""
    examples: int
    coverage: Counter[str]
    failure: str
    """The shrunk example as Hypothesis tells it."""


def machine_on(
    make_server: Callable[[], tuple[Server, SimulatedClock]], coverage: Counter[str]
) -> type[Devices]:
    """The machine, on servers made so; it counts what it does."""
    members = {"make_server": staticmethod(make_server), "coverage": coverage}
    return type("Simulation", (Devices,), members)


def model_maker(model: type[Model]) -> Callable[[], tuple[Server, SimulatedClock]]:
    def make() -> tuple[Server, SimulatedClock]:
        clock = SimulatedClock()
        return model(clock), clock

    return make


def hunt(
    make_server: Callable[[], tuple[Server, SimulatedClock]],
    budget: settings,
    number: int,
    *,
    shrink: bool = True,
) -> Hunt:
    """Runs the machine until it fails or the budget is spent; seeded by `number`."""
    coverage: Counter[str] = Counter()
    members = {"started": 0, "failed_at": None}
    bases = (_Hunted, machine_on(make_server, coverage))
    machine: type[_Hunted] = seed(number)(type("Hunted", bases, members))
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    found: Exception | None = None
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            run_state_machine_as_test(
                machine, settings=settings(budget, phases=phases, database=None)
            )
        except Exception as error:
            found = error
    story = "\n".join(getattr(found, "__notes__", ()))
    steps = len(_STEP.findall(story)) if found is not None and shrink else None
    return Hunt(machine.failed_at, steps, machine.started, coverage, f"{found}\n{story}")


class _Hunted(Devices):
    """Counts its runs until the first that fails; what Hypothesis does after that is shrinking."""

    started = 0
    failed_at: int | None = None

    def __init__(self) -> None:
        super().__init__()
        type(self).started += 1

    def teardown(self) -> None:
        try:
            super().teardown()
        except Exception:
            self._failed()
            raise
        if isinstance(sys.exc_info()[1], Exception):
            self._failed()

    def _failed(self) -> None:
        if self.failed_at is None:
            type(self).failed_at = self.started


@click.command()
@click.option("--server", type=click.Choice(["model", "service"]), default="model")
@click.option("--budget", type=click.Choice(sorted(BUDGETS)), default="pr", show_default=True)
@click.option("--runs", default=3, show_default=True, help="Runs for each bug, each with a seed.")
@click.option("--seed", "first", default=1, show_default=True, help="Of the first run.")
@click.option("--only", help="One bug, by its name.")
@click.option("--shrink/--no-shrink", default=True, help="Also down to the steps that matter.")
@click.option("--survive/--no-survive", default=True, help="Also run without a bug.")
def main(
    server: str, budget: str, runs: int, first: int, only: str | None, shrink: bool, survive: bool
) -> None:
    """Plants each bug, and runs the machine until it finds it."""
    console = Console()
    with (
        _on_model(BUDGETS[budget], shrink)
        if server == "model"
        else _on_service(BUDGETS[budget]) as prey
    ):
        chosen = {
            name: one
            for name, one in prey.items()
            if (name == only or only is None) and (survive or name != NO_BUG)
        }
        hunts = _hunt_all(chosen, range(first, first + runs), console)
    table = Table("bug", *(f"run {run + 1}" for run in range(runs)), "steps, shrunk")
    for name, found in hunts.items():
        table.add_row(name, *_row(found))
    console.print(table)
    wrong = [
        name
        for name, found in hunts.items()
        if any((one.found_at is None) != (name == NO_BUG) for one in found)
    ]
    if wrong:
        console.print(f"Not as it must be: {', '.join(wrong)}", style="bold red")
    if NO_BUG in wrong:
        console.print(next(one.failure for one in hunts[NO_BUG] if one.found_at), markup=False)
    sys.exit(bool(wrong))


@contextlib.contextmanager
def _on_model(budget: Budget, shrink: bool) -> Iterator[Prey]:
    bugs = {**BUGS, NO_BUG: Model}
    yield {
        name: partial(hunt, model_maker(model), budget.on_model(), shrink=shrink)
        for name, model in bugs.items()
    }


@contextlib.contextmanager
def _on_service(budget: Budget) -> Iterator[Prey]:
    """A PostgreSQL of its own, and a service on it that is patched while a bug is hunted."""
    log_nothing = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=log_nothing)

    def hunt_patched(plant: Callable[[], AbstractContextManager[Any]], number: int) -> Hunt:
        with bench(cluster.clone()) as made, plant():
            return hunt(made.server, budget.on_service(), number, shrink=False)

    with contextlib.contextmanager(conftest.start_cluster)("PostgreSQL 18", None) as cluster:
        bugs = {**SERVICE_BUGS, NO_BUG: contextlib.nullcontext}
        yield {name: partial(hunt_patched, plant) for name, plant in bugs.items()}


def _hunt_all(prey: Prey, seeds: range, console: Console) -> dict[str, list[Hunt]]:
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn())
    hunts: dict[str, list[Hunt]] = {name: [] for name in prey}
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=len(prey) * len(seeds))
        for name, look in prey.items():
            progress.update(task, description=name)
            for number in seeds:
                hunts[name].append(look(number))
                progress.advance(task)
    return hunts


def _row(hunts: list[Hunt]) -> list[str]:
    """At which example each run found it, and how many steps are left of that."""
    found = [
        f"survives {one.examples}" if one.found_at is None else str(one.found_at) for one in hunts
    ]
    steps = [str(one.steps) for one in hunts if one.steps is not None]
    return [*found, ", ".join(steps)]


if __name__ == "__main__":
    main()
