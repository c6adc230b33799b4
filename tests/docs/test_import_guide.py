"""The guide to imports says what the import does."""

import re
from pathlib import Path
from typing import get_args

from app.errors import Code
from app.operations.importing.mapping import Reading, read_mapping, shipped
from app.operations.importing.rows import Reason

GUIDE = (Path(__file__).parents[2] / "docs/how-to/import.md").read_text()


def table_after(heading: str) -> list[str]:
    """What stands in the first column of the table after some words."""
    rows = GUIDE.partition(heading)[2].partition("|---|---|\n")[2].partition("\n\n")[0]
    return [
        name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]


def test_every_reason_is_told() -> None:
    """Whoever reads the report looks its codes up there."""
    told = table_after("## Why a row was rejected")
    assert {reason.value for reason in Reason} <= set(told)
    assert set(told) <= {*(reason.value for reason in Reason), *(code.value for code in Code)}


def test_every_mapping_and_reading_is_told() -> None:
    """A mapping that nobody knows of is written twice."""
    assert set(table_after("## Which mapping")) == set(shipped())
    assert set(table_after("is rejected (`ambiguous`)")) == set(get_args(Reading))


def test_the_examples_are_mappings() -> None:
    """They are copied first and read afterwards."""
    subscription, scores = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    mapping = read_mapping(scores.encode(), ".toml", "the guide")
    assert mapping.used_columns() >= {"player_id", "game", "changed_at", "deleted_at", "points"}
    profiles = shipped()["profiles"]
    kept = re.sub(r'^(subscription_status|is_subscribed) = "as .*\n', "", profiles, flags=re.M)
    more = read_mapping(f"{kept}\n{subscription}".encode(), ".toml", "the guide")
    assert {"subscription_status", "is_subscribed"} <= more.used_columns()
