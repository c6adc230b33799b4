"""The report must not count a mutant as a message that changes anything else."""

import json
from pathlib import Path

from tests.mutation.report import judged

ORIGINAL = '    raise WrongType(path, f"a {kind} takes " + "a number")'
MUTANTS = {
    '    raise WrongType(path, f"a {kind} takes " + "XXa numberXX")': True,
    '    raise WrongType(path, None + "a number")': True,
    '    raise WrongType(None, f"a {kind} takes " + "a number")': False,
    '    raise WrongType(f"a {kind} takes " + "a number")': False,
    '    raise OperationRefused(path, f"a {kind} takes " + "a number")': False,
    '    return WrongType(path, f"a {kind} takes " + "a number")': False,
}


def test_a_message_is_a_text_in_an_exception_and_nothing_else(tmp_path: Path) -> None:
    """A wrong path or type reaches clients as data; the words reach people."""
    names = [f"x_check__mutmut_{number}" for number in range(1, len(MUTANTS) + 1)]
    bodies = zip(["x_check__mutmut_orig", *names], [ORIGINAL, *MUTANTS], strict=True)
    source = "\n".join(f"def {name}(path, kind):\n{body}" for name, body in bodies)
    (tmp_path / "plain.py").write_text(source)
    codes = {f"merge_rules.plain.{name}": code for code, name in enumerate(names)}
    meta = tmp_path / "plain.py.meta"
    meta.write_text(json.dumps({"exit_code_by_key": codes}))
    found = [*judged(meta)]
    assert [message for _, _, message in found] == [*MUTANTS.values()]
    assert [verdict for _, verdict, _ in found][:2] == ["survived", "killed"]
