"""What became of the mutants: `python -m tests.mutation.report`, after `mutmut run`.

A mutant is left out of the count if it changes messages only: if the two functions are the same
once every text, and every None in its place, is blanked in the arguments of each call that makes
an exception or tells a story to a person. Docstrings are not mutated at all.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

MUTANTS = Path("mutants")
FOLDERS = ("verification", "testing")
SPEAKING = {
    *("NotJson", "NotCanonical", "WrongType", "DeviceRequired", "OperationRefused", "Refusal"),
    *("ValueError", "AssertionError", "RubbishError", "RegistryError", "Violation"),
    *("refuse", "tell", "told"),
}
"""What is called with words for people: exceptions, and what tells the story of an example."""

KILLED, SURVIVED, NO_TEST, TIMEOUT = "killed", "survived", "no test", "timeout"
VERDICTS = {
    **{0: SURVIVED, 1: KILLED, 3: KILLED, 5: NO_TEST, 33: NO_TEST},
    **{24: TIMEOUT, -24: TIMEOUT, 36: TIMEOUT, 152: TIMEOUT, 255: TIMEOUT},
}


class _Blank(ast.NodeTransformer):
    """Takes away every text of a message, and each expression that is written into one."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in SPEAKING:
            node.args = [_WithoutText().visit(one) for one in node.args]
        return node


class _WithoutText(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        is_text = node.value is None or isinstance(node.value, str)
        return ast.Constant("") if is_text else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


def _blanked(function: ast.FunctionDef) -> str:
    function.name = ""
    return ast.dump(_Blank().visit(function))


def _functions(source: str) -> dict[str, ast.FunctionDef]:
    """The functions of a mutated file, methods too, under the names that they have there."""
    return {
        node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
    }


def judged(meta: Path) -> Iterator[tuple[str, str, bool]]:
    """Each mutant of a file: its name, what became of it, and whether it changes messages only."""
    functions = _functions(meta.with_suffix("").read_text())
    for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
        mutant = name.rpartition(".")[2]
        original = functions[mutant.rpartition("__mutmut_")[0] + "__mutmut_orig"]
        verdict = "not tried" if code is None else VERDICTS.get(code, f"exit code {code}")
        yield name, verdict, _blanked(functions[mutant]) == _blanked(original)


def _line(name: str, counts: Counter[str]) -> str:
    counted = sum(counts.values()) - counts["messages"]
    gone = counts[KILLED] + counts[TIMEOUT]
    share = f"{100 * gone / counted:6.1f} %" if counted else ""
    left = counted - gone
    columns = (counts["messages"], counted, counts[KILLED], counts[TIMEOUT], left)
    return f"{name:36}" + "".join(f"{column:10}" for column in columns) + f"{share:>10}"


@click.command()
@click.option("--survivors", is_flag=True, help="Name those that survived as well.")
def main(survivors: bool) -> None:
    """Counts the mutants of each file."""
    columns = ("messages", "mutants", "killed", "timeout", "left", "gone")
    click.echo(f"{'':36}" + "".join(f"{column:>10}" for column in columns))
    totals: dict[str, Counter[str]] = {}
    left: list[str] = []
    for meta in sorted(MUTANTS.rglob("*.py.meta")):
        counts: Counter[str] = Counter()
        for name, verdict, message in judged(meta):
            counts["messages" if message else verdict] += 1
            if not message and verdict not in (KILLED, TIMEOUT):
                left.append(f"{verdict:10} {name}")
        if counts:
            path = meta.relative_to(MUTANTS).with_suffix("")
            click.echo(_line(str(path), counts))
            part = path.parent.name if path.parent.name in FOLDERS else "core"
            totals.setdefault(part, Counter()).update(counts)
    for part, counts in totals.items():
        click.echo(_line(f"= {part}", counts))
    if survivors:
        click.echo("\n".join(["", *left]))


if __name__ == "__main__":
    main()
