"""`syncline rules check`: the laws of every rule that a module registers, and what breaks them."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from merge_rules.documents import shipped_registry
from merge_rules.registry import load_rules
from merge_rules.rule import Rule
from merge_rules.testing import Counterexample, Result, check_laws


def check_module(name: str, examples: int, out: Console) -> bool:
    """Whether every rule that the module registers holds; says so, rule by rule.

    Raises RegistryError if the module cannot be loaded.
    """
    registry = shipped_registry()
    shipped = registry.registered()
    registry.refuses_unsafe = False
    load_rules(registry, name)
    found: dict[str, Result] = {}
    for pattern, rule in registry.registered().items():
        if shipped.get(pattern) is rule:
            continue
        definition = _definition(rule)
        if definition not in found:
            found[definition] = _check(pattern, rule, examples, out)
        replaces = " (replaces the shipped rule)" if pattern in shipped else ""
        _say(out, f"{pattern}{replaces}: {definition}", found[definition], name)
    if not found:
        _print(out, f"{name} registers no rule of its own.")
    return all(found.values())


def _definition(rule: Rule) -> str:
    try:
        return str(rule.describe())
    except Exception:  # the check says how it fails
        return type(rule).__name__


def _check(pattern: str, rule: Rule, examples: int, out: Console) -> Result:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    quiet = not out.is_terminal
    with Progress(*columns, console=out, transient=True, disable=quiet) as progress:
        task = progress.add_task(pattern, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return check_laws(rule, examples, on_progress=advance)


def _say(out: Console, subject: str, found: Result, module: str) -> None:
    if not isinstance(found, Counterexample):
        _print(out, f"{subject}: holds, {found.examples:,} examples")
        return
    _print(out, f"{subject}: BROKEN in {module}")
    _print(out, f"{found}")


def _print(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
