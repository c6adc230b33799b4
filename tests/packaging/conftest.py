"""Wheels of this checkout, built as pip builds them."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Build = Callable[..., subprocess.CompletedProcess[str]]
"""Takes the folder to build into, pip's options and variables; gives what pip said."""


def obstacle() -> str | None:
    """Why nothing can be compiled here, as the hook that compiles says it; None if it can be."""
    spec = spec_from_file_location("compile_hook", ROOT / ".ci" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    hook = module_from_spec(spec)
    spec.loader.exec_module(hook)
    found: str | None = hook.obstacle()
    return found


def build(folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Builds a wheel into the folder; what pip said, and whether it could."""
    environment = {k: v for k, v in os.environ.items() if k != "SYNCLINE_COMPILE"} | variables
    command = (*("-m", "pip", "wheel", "--no-deps"), *options, "--wheel-dir", str(folder))
    return subprocess.run(
        [sys.executable, *command, str(ROOT)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def compiled_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with compiled modules: the one that TESTS_COMPILED_WHEEL names, or a new one."""
    given = os.environ.get("TESTS_COMPILED_WHEEL")
    if given is not None:
        return Path(given)
    why = obstacle()
    if why is not None:
        pytest.skip(f"nothing can be compiled here: {why}")
    folder = tmp_path_factory.mktemp("compiled")
    built = build(folder, SYNCLINE_COMPILE="1")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def compiled_site(compiled_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the compiled wheel installed, to go before the checkout on the path."""
    site = tmp_path_factory.mktemp("site")
    command = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site))
    subprocess.run([sys.executable, *command, str(compiled_wheel)], check=True)
    return site
