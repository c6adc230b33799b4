"""Packages of npm for tests: the real clients and schemas that our documents promise to fit.

Each is installed once, at an exact version, into a folder that git ignores.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[1] / ".node"
REQUIRED = "TESTS_REQUIRE_NPM"
"""Set where no test may be left out for want of npm, as in `.ci/run`."""


def installed(package: str, version: str) -> Path:
    """The folder to run node in; skips the test, with its reason, where there is no npm."""
    npm = shutil.which("npm")
    if npm is None:
        reason = f"npm is not installed, which brings {package} {version}"
        if os.environ.get(REQUIRED):
            pytest.fail(f"{reason}, and {REQUIRED} is set")
        pytest.skip(reason)
    folder = CACHE / f"{package.replace('/', '+')}-{version}"
    if not (folder / "node_modules" / package / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = ("--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
        done = subprocess.run(
            [npm, "install", *options, f"{package}@{version}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder
