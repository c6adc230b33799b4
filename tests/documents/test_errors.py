"""Every error has one status, one title, and one row in the reference."""

import json
import re
from pathlib import Path

import pytest

from app import problems
from app.errors import Code, SynclineError

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_status_and_a_title(code: Code) -> None:
    """A code without an entry in the tables would be a KeyError, and so a 500, when it is met."""
    error = SynclineError(code, "What to do.", extra=1)
    assert 400 <= problems.STATUS[code] < 600
    assert problems.problem(error) == {
        "type": f"https://syncline.dev/errors#{code.value}",
        "title": problems.TITLE[code],
        "status": problems.STATUS[code],
        "detail": "What to do.",
        "code": code.value,
        "extra": 1,
    }
    assert json.loads(problems.render(error))["code"] == code.value


def test_codes_titles_and_tables_are_one_to_one() -> None:
    """Two codes of one title could not be told apart by a person; a stray entry is a typo."""
    assert set(problems.STATUS) == set(problems.TITLE) == set(Code)
    assert len(set(problems.TITLE.values())) == len(Code)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code.value) for code in Code)


def test_the_reference_lists_exactly_the_codes() -> None:
    """The reference is what callers program against: each code once, with its true status."""
    rows = ROW.findall(REFERENCE.read_text())
    assert sorted(row[0] for row in rows) == sorted(code.value for code in Code)
    for code, status, meaning, remedy in rows:
        assert int(status) == problems.STATUS[Code(code)], code
        assert meaning.strip().endswith("."), code
        assert remedy.strip().endswith("."), code
    tables = [line for line in REFERENCE.read_text().splitlines() if line.startswith("|")]
    assert len(tables) == len(rows) + 2, "a row does not have the form of the others"


def test_the_reference_shows_a_true_example() -> None:
    """The example is what people copy, so it has the members and the wording of the real thing."""
    (text,) = re.findall(r"```json\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    shown = json.loads(text)
    error = SynclineError(Code.DOCUMENT_DELETED, shown["detail"], version=shown["version"])
    assert shown == problems.problem(error)


@pytest.mark.parametrize("code", [code for code in Code if problems.STATUS[code] in (401, 503)])
def test_headers_that_a_status_asks_for(code: Code) -> None:
    """401 names the scheme (RFC 9110 15.5.2), and 503 says when to come back."""
    headers = problems.headers(SynclineError(code, ""))
    if problems.STATUS[code] == 503:
        assert int(headers["Retry-After"]) > 0
    else:
        assert headers["WWW-Authenticate"].startswith("Bearer ")
