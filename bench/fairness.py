"""Whether one account that floods the service makes the others wait.

A few connections write documents of many accounts, first alone, then while 32 connections push 25
documents each, again and again, all of one account.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
from rich.console import Console
from rich.table import Table

from bench.generators import CONNECTIONS, FailedRun, Generator, Load
from bench.run import Options, opened, prepare_load
from bench.workloads import SYNC_LESSONS, WORKLOADS, Plan, Workload

OTHERS = 8
"""Connections of the others: few, so that they wait for the service and not for each other."""
LEAD_S = 1.0
"""How long the flood runs before the others are measured, and after."""


class Fairness(msgspec.Struct):
    """The others alone and beside the flood, and the flood itself, round by round."""

    alone: list[Load]
    beside: list[Load]
    flood: list[Load]


def measure(
    seconds: float, rounds: int, accounts: int, generator: Generator, say: Callable[[str], None]
) -> Fairness:
    """Raises FailedRun if a write of the others failed. What the flood is refused is no error."""
    ordinary, flooding = _work("W1"), _work("B1")
    result = Fairness([], [], [])
    say("Starting, and filling the tables.")
    with (
        opened(Options(accounts=accounts), generator) as bench,
        ThreadPoolExecutor(1) as thread,
    ):
        url = bench.service.url
        generator.run(prepare_load(bench, ordinary), url, LEAD_S, OTHERS)
        for number in range(rounds):
            say(f"Round {number + 1}: the others alone.")
            result.alone.append(generator.run(prepare_load(bench, ordinary), url, seconds, OTHERS))
            say(f"Round {number + 1}: the others beside a flood.")
            others, all_of_them = prepare_load(bench, ordinary), prepare_load(bench, flooding)
            # Without a cursor: on so many connections nobody knows how far the account is.
            one = Plan(all_of_them.items[:1], [SYNC_LESSONS], all_of_them.stale)
            flood = thread.submit(generator.run, one, url, seconds + 2 * LEAD_S, CONNECTIONS)
            generator.run(others, url, LEAD_S, OTHERS)
            result.beside.append(generator.run(prepare_load(bench, ordinary), url, seconds, OTHERS))
            result.flood.append(flood.result())
    for load in (*result.alone, *result.beside):
        if load.errors:
            raise FailedRun(f"{load.errors} writes of the others failed")
    return result


def _work(name: str) -> Workload:
    (work,) = (work for work in WORKLOADS if work.name == name)
    return work


def show(result: Fairness, out: Console) -> None:
    """One line a round; the ratio of both p99 is what counts."""
    table = Table("round", "", "requests/s", "p50, ms", "p99, ms", "p99 against alone")
    pairs = zip(result.alone, result.beside, result.flood, strict=True)
    for number, (alone, beside, flood) in enumerate(pairs, 1):
        for name, load in (("alone", alone), ("beside the flood", beside), ("the flood", flood)):
            ratio = f"{load.p99_ms / alone.p99_ms:.1f}" if load is beside else ""
            rate = f"{load.requests / load.seconds:,.0f}"
            table.add_row(
                str(number), name, rate, f"{load.p50_ms:.1f}", f"{load.p99_ms:.1f}", ratio
            )
    out.print(table)
