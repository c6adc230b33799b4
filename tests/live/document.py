"""Holds frames of the live socket against the service's own AsyncAPI document."""

from collections.abc import Callable
from typing import Any, Literal

from jsonschema import Draft7Validator

Validate = Callable[[Literal["client", "server"], Any], str | None]
"""What is wrong with a frame that the client or the server sent; None: nothing."""

BY = {"receive": "client", "send": "server"}


def validator(document: dict[str, Any]) -> Validate:
    """A check by the document alone, as a tool would make it."""
    schemas = {
        (BY[operation["action"]], name): Draft7Validator(
            {
                **document["components"]["messages"][name]["payload"],
                "components": document["components"],
            }
        )
        for operation in document["operations"].values()
        for name in [operation["messages"][0]["$ref"].rpartition("/")[2]]
    }

    def validate(sender: Literal["client", "server"], frame: Any) -> str | None:
        schema = schemas.get((sender, frame.get("type")))
        if schema is None:
            return f"{sender}s send no {frame.get('type')!r}"
        error = next(schema.iter_errors(frame), None)
        return None if error is None else f"{error.message[:300]} at {list(error.absolute_path)}"

    return validate
