"""What is compiled behaves as its sources do, and nobody has to compile."""

import ast
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.packaging.conftest import ROOT, build, obstacle

DECISIONS = Path(__file__).with_name("decisions.py")
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
    "wheel"
]["hooks"]["custom"]
AT_HAND = ("--verbose", "--no-build-isolation")
"""Builds with what is installed: it is quicker, and shows what the hook says."""
NO_COMPILER = {"CC": "no-such-compiler"}

needs_compiler = pytest.mark.skipif(obstacle() is not None, reason=f"here {obstacle()}")


def run(site: Path, *arguments: str, **variables: str) -> str:
    """What Python printed that found the packages in `site` before those of the checkout."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(site)} | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- building ---------------------------------------------------------------------------------


def test_a_compiled_wheel_is_for_this_platform_and_holds_the_sources_too(
    compiled_wheel: Path,
) -> None:
    """On another platform pip must not take it; a traceback needs the sources."""
    assert not compiled_wheel.name.endswith("-py3-none-any.whl")
    with ZipFile(compiled_wheel) as wheel:
        names = wheel.namelist()
    for module in HOOK["modules"]:
        assert module in names
        stem = module.removesuffix(".py") + "."
        assert any(name.startswith(stem) and name.endswith(".so") for name in names), module


def test_building_leaves_nothing_in_the_checkout(compiled_wheel: Path) -> None:
    """A compiled module beside its source would hide every edit of it."""
    packages = (ROOT / "app", ROOT / "merge_rules")
    found = [path for folder in packages for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in (*found, *ROOT.glob("*")) if path.suffix in (".so", ".c", ".o")]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (NO_COMPILER, "stays plain Python: there is no C compiler (no-such-compiler)"),
        ({"CC": "false"}, "stays plain Python: compiling failed"),
        ({"SYNCLINE_COMPILE": "0"}, ""),
    ],
    ids=["no compiler", "a broken compiler", "switched off"],
)
def test_what_cannot_be_compiled_or_must_not_be_is_plain_python(
    variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A machine with Python and pip alone has to be enough."""
    built = build(tmp_path, *AT_HAND, **variables)
    assert built.returncode == 0, built.stdout + built.stderr
    assert said in built.stdout + built.stderr
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    with ZipFile(wheel) as opened:
        assert not [name for name in opened.namelist() if name.endswith(".so")]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (NO_COMPILER | {"SYNCLINE_COMPILE": "1"}, "SYNCLINE_COMPILE is 1, and there is no C"),
        ({"SYNCLINE_COMPILE": "yes"}, "SYNCLINE_COMPILE is 0 or 1, not 'yes'"),
    ],
    ids=["no compiler", "neither"],
)
def test_who_asks_for_compiled_code_gets_no_other(
    variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A silent fallback would serve less than the operator counts on."""
    built = build(tmp_path, *AT_HAND, **variables)
    assert built.returncode != 0
    assert said in built.stdout + built.stderr


@needs_compiler
def test_what_compiling_needs_is_installed_only_where_something_is_compiled() -> None:
    """The version of mypy is the one that checks the types."""
    ask = "import hatchling.build as b, sys; print(getattr(b, sys.argv[1])())"
    wheel, editable = "get_requires_for_build_wheel", "get_requires_for_build_editable"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for pinned in extras["optional-dependencies"]["compiling"]:
        assert pinned in run(ROOT, "-c", ask, wheel, SYNCLINE_COMPILE="1")
        assert pinned not in run(ROOT, "-c", ask, wheel, SYNCLINE_COMPILE="0")
        assert pinned not in run(ROOT, "-c", ask, wheel, SYNCLINE_COMPILE="", **NO_COMPILER)
        assert pinned not in run(ROOT, "-c", ask, editable, SYNCLINE_COMPILE="")


def test_an_editable_install_is_not_compiled(tmp_path: Path) -> None:
    """Its sources are edited, and what was compiled would hide it."""
    venv.create(tmp_path, with_pip=True)
    command = ("-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT))
    environment = {k: v for k, v in os.environ.items() if k != "SYNCLINE_COMPILE"}
    subprocess.run([tmp_path / "bin/python", *command], env=environment, check=True)
    (installed,) = tmp_path.rglob("syncline-*.dist-info/WHEEL")
    assert "py3-none-any" in installed.read_text()
    assert not [*tmp_path.rglob("*__mypyc*.so")]


def test_no_struct_is_compiled() -> None:
    """One of a compiled module has lost the types of its fields, and decodes nothing."""
    for module in HOOK["modules"]:
        classes = [
            node
            for node in ast.walk(ast.parse((ROOT / module).read_text()))
            if isinstance(node, ast.ClassDef)
        ]
        bases = {ast.unparse(base) for one in classes for base in one.bases}
        assert not bases & {"Struct", "msgspec.Struct"}, module


# --- running ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_compiled_code_decides_as_its_sources_do(seed: int, compiled_site: Path) -> None:
    """Requests of all kinds, also refused ones, to all rules, also one of an app's own: the same
    outcomes, bytes, receipts and words."""
    arguments = (str(DECISIONS), str(seed), "4000")
    plain, compiled = (run(site, *arguments).splitlines() for site in (ROOT, compiled_site))
    assert (plain[0], compiled[0]) == ("false", "true")
    assert len(plain) > 4000
    for number, (one, other) in enumerate(zip(plain[1:], compiled[1:], strict=True)):
        assert one == other, f"request {number}"


def test_the_laws_and_the_vectors_hold_of_compiled_rules(compiled_site: Path) -> None:
    """So they do of an app's own rules, plain Python that inherits from compiled classes; and
    rules that break a law are found out all the same."""
    chosen = (
        "conformance/test_vectors.py",
        "merge_rules/test_laws.py",
        "merge_rules/test_broken_rules.py",
    )
    run(
        compiled_site,
        *("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
        *("-o", f"pythonpath={compiled_site} {ROOT}"),
        *(f"tests/{name}" for name in chosen),
        TESTS_ON_COMPILED="1",
    )
