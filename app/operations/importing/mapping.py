"""The mapping language: which columns of an old table become which documents and events.

The reference is docs/how-to/import.md.
"""

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from app.operations.importing.template import Template, TemplateError
from merge_rules.canonical import check
from merge_rules.refusal import Refusal

Reading = Literal[
    "value",
    "json",
    "text",
    "integer",
    "number",
    "boolean",
    "timestamp",
    "seconds",
    "milliseconds",
    "day",
]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}\Z")]
MEMBER = "member"
"""What a template calls the name of the member of which `each` makes a document."""
SUFFIXES = {".toml", ".json"}


class MappingError(Exception):
    """A mapping that cannot be used; the text names what is wrong in it."""


class Expression(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where a value comes from and how it is read. Exactly one of the first three is given."""

    column: str | None = None
    template: str | None = None
    constant: Any = UNSET
    reading: Reading = msgspec.field(name="as", default="value")
    default: Any = UNSET
    """Stands where the column is empty; without one, the value is left out."""


Source = str | Expression
"""An expression; a mere text is the name of a column, taken as it is."""


class DocumentTarget(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A document that a row becomes: of one value, of fields, or one for `each` member."""

    key: str
    value: Source | None = None
    fields: dict[str, Source] = {}
    each: Source | None = None


class EventTarget(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An event that a row becomes."""

    type: str
    id: str
    occurred_at: Source
    fields: dict[str, Source]


class OpeningTarget(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Totals that the account is known to have had: at least so much."""

    totals: dict[str, Source] = {}
    profile: dict[str, Source] = {}


class Mapping(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What becomes of the rows of one table or file."""

    source: Name
    """Names the facts for good: the same rows under another name count once more."""
    account: str
    description: str = ""
    table: str | None = None
    key: list[str] = []
    """Columns of the table that are unique together and never null: rows are read in their
    order, so that reading can go on where it stopped."""
    time: Source | None = None
    """When the row was last written."""
    only_if_empty: list[str] = []
    """Rows in which one of these columns holds something are passed over."""
    leave_out: dict[str, str] = {}
    """Columns that become nothing, and why."""
    documents: list[DocumentTarget] = []
    events: list[EventTarget] = []
    openings: list[OpeningTarget] = []

    def used_columns(self) -> set[str]:
        """Every column that some part of the mapping reads."""
        templates = [self.account, *(one.key for one in self.documents)]
        templates += [one.id for one in self.events]
        expressions = [self.time]
        for document in self.documents:
            expressions += [document.value, document.each, *document.fields.values()]
        for event in self.events:
            expressions += [event.occurred_at, *event.fields.values()]
        for opening in self.openings:
            expressions += [*opening.totals.values(), *opening.profile.values()]
        used = {*self.only_if_empty}
        for source in expressions:
            if source is None:
                continue
            one = expression(source)
            used |= {one.column} if one.column is not None else set()
            templates += [one.template] if one.template is not None else []
        for text in templates:
            used |= set(Template.parse(text).columns)
        return used - {MEMBER}


def expression(source: Source) -> Expression:
    return Expression(column=source) if isinstance(source, str) else source


def shipped() -> dict[str, str]:
    """The mappings that come with Syncline: the text of each by its name."""
    folder = files("app.operations.importing") / "mappings"
    found = {one.name: one for one in folder.iterdir() if one.name.endswith(".toml")}
    return {name.removesuffix(".toml"): found[name].read_text() for name in sorted(found)}


def load_mapping(name: str) -> Mapping:
    """A shipped mapping by its name, or one from a file; raises MappingError."""
    texts = shipped()
    if name in texts:
        return read_mapping(texts[name].encode(), ".toml", name)
    path = Path(name).expanduser()
    if path.suffix not in SUFFIXES:
        known = ", ".join(texts)
        raise MappingError(f"{name!r} is neither a .toml or .json file nor one of: {known}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MappingError(f"{name}: {error.strerror or error}") from error
    return read_mapping(data, path.suffix, name)


def read_mapping(data: bytes, suffix: str, name: str) -> Mapping:
    """A mapping from its text; raises MappingError with the name and the place at fault."""
    try:
        content = tomllib.loads(data.decode()) if suffix == ".toml" else msgspec.json.decode(data)
        mapping = msgspec.convert(content, Mapping)
        _check(mapping)
    except (
        msgspec.DecodeError,
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        RecursionError,
        Refusal,
        TemplateError,
        MappingError,
    ) as error:
        raise MappingError(f"{name}: {error}") from error
    return mapping


def _check(mapping: Mapping) -> None:
    targets = [*mapping.documents, *mapping.events, *mapping.openings]
    if not targets:
        raise MappingError("it needs one of `documents`, `events`, `openings`")
    for document in mapping.documents:
        given = [document.value is not None, bool(document.fields), document.each is not None]
        if sum(given) != 1:
            raise MappingError(
                f"document {document.key!r} takes one of `value`, `fields` and `each`"
            )
        if (MEMBER in Template.parse(document.key).columns) != (document.each is not None):
            raise MappingError(
                f"document {document.key!r}: a key names {{{MEMBER}}} where there is `each`, and "
                "only there"
            )
        _check_literal(document.key)
    for opening in mapping.openings:
        if not opening.totals and not opening.profile:
            raise MappingError("an opening takes `totals` or `profile`")
    for source in _expressions(mapping):
        _check_expression(expression(source))
    both = mapping.used_columns() & mapping.leave_out.keys()
    if both:
        raise MappingError(f"{', '.join(sorted(both))}: used, and named in `leave_out` as well")


def _expressions(mapping: Mapping) -> list[Source]:
    found: list[Source | None] = [mapping.time]
    for document in mapping.documents:
        found += [document.value, document.each, *document.fields.values()]
    for event in mapping.events:
        found += [event.occurred_at, *event.fields.values()]
    for opening in mapping.openings:
        found += [*opening.totals.values(), *opening.profile.values()]
    return [one for one in found if one is not None]


def _check_expression(one: Expression) -> None:
    given = (one.column is not None, one.template is not None, one.constant is not UNSET)
    if sum(given) != 1:
        raise MappingError("a value takes one of `column`, `template` and `constant`")
    if one.template is not None:
        Template.parse(one.template)
    for value in (one.constant, one.default):
        if value is not UNSET:
            check(value)


def _check_literal(key: str) -> None:
    """What stands in a key between its columns must be allowed in keys."""
    literal = "".join(Template.parse(key).literals)
    if not re.fullmatch(r"[A-Za-z0-9._:~-]*", literal):
        raise MappingError(f"document {key!r}: keys are [A-Za-z0-9._:~-]{{1,128}}")
