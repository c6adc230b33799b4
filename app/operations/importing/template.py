"""Templates such as `lesson:{thread_id}:{stitch_id}`: text made of the columns of a row."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_HOLE = re.compile(r"\{([^{}]+)\}")


class TemplateError(Exception):
    """The text is no template."""


class Ambiguous(Exception):
    """A column holds what separates it from the next, so that two rows could look alike."""


@dataclass(frozen=True, slots=True)
class Template:
    """`literals` stand around and between the `columns`: one more of them."""

    literals: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Template":
        parts = _HOLE.split(text)
        literals = tuple(parts[::2])
        if any("{" in literal or "}" in literal for literal in literals):
            raise TemplateError(f"{text!r}: a column stands in braces, as in {{user_id}}")
        if any(literal == "" for literal in literals[1:-1]):
            raise TemplateError(f"{text!r}: two columns need something between them")
        return cls(literals, tuple(parts[1::2]))

    def fill(self, texts: Mapping[str, str]) -> str:
        """The text with these columns in it; different columns always give different texts.

        Raises Ambiguous where that cannot be promised.
        """
        filled = self.literals[0]
        last = len(self.columns) - 1
        for place, column in enumerate(self.columns):
            text, separator = texts[column], self.literals[place + 1]
            if place < last and (text + separator).find(separator) != len(text):
                raise Ambiguous(f"{column} holds {separator!r}, which separates it from the next")
            filled += text + separator
        return filled
