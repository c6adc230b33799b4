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
    nothing: list[Any] = []
    """Values, as they are read, that stand for nothing: the column counts as empty."""
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
    """What the account is known to have had: at least so much of a total, and of its profile."""

    totals: dict[str, Source] = {}
    blink_speed: Source | None = None
    evolution_level: Source | None = None
    streak_days: Source | None = None
    last_day: Source | None = None

    def sources(self) -> list[Source]:
        parts = (self.blink_speed, self.evolution_level, self.streak_days, self.last_day)
        return [*self.totals.values(), *(part for part in parts if part is not None)]


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
    optional: list[str] = []
    """Columns that the source may lack: they are empty then."""
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
        used = {*self.only_if_empty}
        for one in map(expression, self.sources()):
            used |= {one.column} if one.column is not None else set()
            templates += [one.template] if one.template is not None else []
        for text in templates:
            used |= set(Template.parse(text).columns)
        return used - {MEMBER}

    def sources(self) -> list[Source]:
        """Every expression."""
        found: list[Source | None] = [self.time]
        for document in self.documents:
            found += [document.value, document.each, *document.fields.values()]
        for event in self.events:
            found += [event.occurred_at, *event.fields.values()]
        for opening in self.openings:
            found += opening.sources()
        return [one for one in found if one is not None]


def expression(source: Source) -> Expression:
    return Expression(column=source) if isinstance(source, str) else source


def shipped() -> dict[str, str]:
    """The mappings that come with Syncline: the text of each by its name."""
    folder = files("app.operations.importing") / "mappings"
    found = {one.name: one for one in folder.iterdir() if one.name.endswith(".toml")}
    return {name.removesuffix(".toml"): found[name].read_text() for name in sorted(found)}


def load_mapping(name: str) -> Mapping:
    """A shipped mapping by its name, or one from a file; raises MappingError."""
    suffix = ".toml" if name in shipped() else Path(name).suffix
    return read_mapping(mapping_text(name), suffix, name)


def mapping_text(name: str) -> bytes:
    """The text of a mapping; raises MappingError where there is none."""
    texts = shipped()
    if name in texts:
        return texts[name].encode()
    path = Path(name).expanduser()
    if path.suffix not in SUFFIXES:
        known = ", ".join(texts)
        raise MappingError(f"{name!r} is neither a .toml or .json file nor one of: {known}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise MappingError(f"{name}: {error.strerror or error}") from error


def renamed(mapping: Mapping, source: str) -> Mapping:
    """The mapping for facts of another name; raises MappingError."""
    try:
        return msgspec.convert({**msgspec.to_builtins(mapping), "source": source}, Mapping)
    except msgspec.ValidationError as error:
        raise MappingError(f"--source {source!r}: {error}") from error


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
        if not opening.sources():
            raise MappingError("an opening names totals, or what the profile had")
        if (opening.streak_days is None) != (opening.last_day is None):
            raise MappingError("an opening takes `streak_days` and `last_day` together")
    for source in mapping.sources():
        _check_expression(expression(source))
    both = mapping.used_columns() & mapping.leave_out.keys()
    if both:
        raise MappingError(f"{', '.join(sorted(both))}: used, and named in `leave_out` as well")


def _check_expression(one: Expression) -> None:
    given = (one.column is not None, one.template is not None, one.constant is not UNSET)
    if sum(given) != 1:
        raise MappingError("a value takes one of `column`, `template` and `constant`")
    if one.template is not None:
        Template.parse(one.template)
    for value in (one.constant, one.default, one.nothing):
        if value is not UNSET:
            check(value)


def _check_literal(key: str) -> None:
    """What stands in a key between its columns must be allowed in keys."""
    literal = "".join(Template.parse(key).literals)
    if not re.fullmatch(r"[A-Za-z0-9._:~-]*", literal):
        raise MappingError(f"document {key!r}: keys are [A-Za-z0-9._:~-]{{1,128}}")
