"""What to type to run this program again."""

import shlex
import shutil
import sys
from pathlib import Path


def command() -> str:
    """`syncline` where the shell finds this very script by that name, else the script's path."""
    script = Path(sys.argv[0]).absolute()
    if script.name != "syncline":
        return "syncline"
    found = shutil.which("syncline")
    if found is not None and Path(found).absolute() == script:
        return "syncline"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))
