"""The page for those who move over tells the truth: its example runs."""

import json
import os
import re
import subprocess
from pathlib import Path

from app.socket_io.stats import STORED_NAMES
from tests.conftest import Service
from tests.node import installed
from tests.socket_io.client import PACKAGE

PAGE = (Path(__file__).parents[2] / "docs/how-to/move-from-socketio.md").read_text()


def test_the_example_runs(service: Service, account: str, tmp_path: Path) -> None:
    """It is what an app developer pastes first."""
    (code,) = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    code, imports = re.subn(r"import ({ io }) from (\S+);", r"const \1 = require(\2);", code)
    assert imports == 1
    code = code.replace("http://localhost:8080", service.url)
    around = f"""
        const currentToken = () => {json.dumps(service.token(account))};
        const report = (problem) => {{ throw new Error(problem.detail); }};
        let shown = 0;
        const show = (stats) => {{
          console.log(JSON.stringify(stats));
          if (++shown === 2) process.exit(0);
        }};
    """
    script = tmp_path / "example.js"
    script.write_text(around + code)
    modules = str(installed(*PACKAGE) / "node_modules")
    done = subprocess.run(
        ["node", script],
        env={**os.environ, "NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        stats = json.loads(line)
        assert (stats["xp"], stats["hearts"], stats["level"]) == (10, -1, 2)


def test_the_page_names_what_is_named_otherwise() -> None:
    """A field that is missing there is one that somebody looks for in vain."""
    for name in STORED_NAMES:
        assert f"`{name}`" in PAGE
