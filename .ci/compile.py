"""Compiles the modules that every write goes through, while a wheel is built.

The same sources run compiled or plain, and behave alike: so where there is no C compiler, or where
compiling fails, the wheel is plain Python, and a line says so. An editable install is never
compiled: what was compiled would hide what is edited. The environment variable SYNCLINE_COMPILE
decides otherwise: `0` never, `1` always, and then a failure is an error.

See docs/decisions/README.md for what it gives, and pyproject.toml for the modules.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "SYNCLINE_COMPILE"
LAST_LINES = 20
"""How much of what mypyc or the compiler said is told when they fail."""


def compile_modules(modules: list[str]) -> None:
    """Compiles modules of the tree in the present folder into `lib`, in a process of its own."""
    from mypyc.build import mypycify  # noqa: PLC0415 - there only where something is compiled
    from setuptools import Distribution  # noqa: PLC0415

    sys.path.insert(0, "")
    options = ["--ignore-missing-imports", "--python-executable", sys.executable]
    # -O1: what mypyc writes runs as fast as with -O2, and is compiled in a third of the time.
    extensions = mypycify(
        [*options, *modules], opt_level="1", debug_level="0", group_name="syncline"
    )
    command: Any = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = "lib", "temp"
    command.ensure_finalized()
    command.run()


class CompileHook(BuildHookInterface[Any]):
    """What the builder of wheels calls; the modules are named in its configuration."""

    _scratch: TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """What compiling needs, with the versions that the project pins; nothing without it."""
        if not _is_wanted("editable" if _builds_editable() else "standard"):
            return []
        if obstacle() is not None:
            return []
        extra = self.metadata.core.optional_dependencies["compiling"]
        typed = tuple(self.config["typed-by"])
        return [*extra, *(one for one in self.metadata.core.dependencies if one.startswith(typed))]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the compiled modules to the wheel, beside their sources."""
        if not _is_wanted(version):
            return
        self._scratch = TemporaryDirectory(prefix="syncline-compile-")
        problem = obstacle() or self._compile(Path(self._scratch.name))
        if problem is not None:
            if os.environ.get(SWITCH) == "1":
                raise RuntimeError(f"{SWITCH} is 1, and {problem}")
            self.app.display_warning(f"Syncline stays plain Python: {problem}")
            return
        built = Path(self._scratch.name, "lib")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for file in built.rglob("*"):
            if file.is_file():
                build_data["force_include"][str(file)] = str(file.relative_to(built))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leaves nothing behind once the wheel is written."""
        if self._scratch is not None:
            self._scratch.cleanup()

    def _compile(self, scratch: Path) -> str | None:
        """Compiles a copy of the sources; why that failed, or None."""
        for package in self.build_config.packages:
            shutil.copytree(
                Path(self.root, package),
                scratch / package,
                ignore=shutil.ignore_patterns("__pycache__", "*.so"),
            )
        done = subprocess.run(  # noqa: S603 - this file, with what pyproject.toml names
            [sys.executable, __file__, *self.config["modules"]],
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return None
        said = done.stdout.splitlines()[-LAST_LINES:]
        return "\n".join(("compiling failed:", *said))


def _is_wanted(version: str) -> bool:
    """Whether to compile what is built, `standard` or `editable`, if it can be."""
    switch = os.environ.get(SWITCH, "")
    if switch not in ("", "0", "1"):
        raise ValueError(f"{SWITCH} is 0 or 1, not {switch!r}")
    if switch == "1" and version == "editable":
        raise ValueError(f"{SWITCH} is 1, and an editable install is never compiled")
    return switch != "0" and version != "editable"


def _builds_editable() -> bool:
    """Whether pip asks what an editable install needs: it names the question on the command line.

    Where another tool asks, what compiling needs is installed for nothing.
    """
    return "get_requires_for_build_editable" in sys.argv


def obstacle() -> str | None:
    """Why nothing can be compiled on this machine; None if it can be."""
    if sys.implementation.name != "cpython":
        return "only CPython can be compiled for"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        return f"Python's headers are not installed ({header})"
    return None


if __name__ == "__main__":
    compile_modules(sys.argv[1:])
