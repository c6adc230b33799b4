"""`syncline rules explain`: how the rule of a key merges two edits, path by path."""

import msgspec
from rich.console import Console

from app.documents.types import require_key
from app.tables import table
from merge_rules.canonical import parse
from merge_rules.receipt import explain
from merge_rules.refusal import Refusal
from merge_rules.registry import Registry, RegistryError
from merge_rules.rule import ABSENT, Rule


def explain_merge(
    registry: Registry, key: str, base: str | None, ours: str, theirs: str, out: Console
) -> None:
    """Prints a receipt of two edits, given as JSON; raises RegistryError for what is no edit."""
    try:
        rows = _rows(registry.rule_for(require_key(key)), base, ours, theirs)
    except Refusal as refusal:
        raise RegistryError(str(refusal)) from refusal
    out.print(table(("Path", "Base", "Ours", "Theirs", "Result", "Rule", "Decided"), rows))


def _rows(rule: Rule, base: str | None, ours: str, theirs: str) -> list[tuple[str, ...]]:
    seen = rule.bottom
    if base is not None:
        before = _checked(rule, "base", base)
        seen = rule.advance(rule.bottom, before, (1, 0, "before"))
    yours, current = _checked(rule, "ours", ours), _checked(rule, "theirs", theirs)
    their_state = rule.advance(seen, current, (2, 0, "theirs"))
    our_state = rule.advance(seen, yours, (3, 0, "ours"))
    result = rule.value(rule.join(their_state, our_state))
    base_value = ABSENT if base is None else rule.value(seen)
    rows: list[tuple[str, ...]] = []
    for entry in explain(rule, base_value, yours, current, result):
        cells = [_json(entry, name) for name in ("base", "yours", "current", "result")]
        decided = {"yours": "ours", "current": "theirs", "both": "both"}[entry["decided"]]
        rows.append((entry["path"] or "(whole)", *cells, entry["rule"], decided))
    return rows


def _checked(rule: Rule, option: str, text: str) -> object:
    """The value of an option, which the rule has to be able to merge."""
    try:
        value, _ = parse(text.encode(errors="replace"))
        rule.check(value)
    except Refusal as refusal:
        raise RegistryError(f"--{option}: {refusal}") from refusal
    return value


def _json(entry: dict[str, object], name: str) -> str:
    return msgspec.json.encode(entry[name]).decode() if name in entry else "-"
