"""Why a value, a write or an operation is refused. A refusal merges nothing."""

import re

Path = tuple[str, ...]


def pointer(path: Path) -> str:
    """The path as a JSON Pointer (RFC 6901); the whole document is the empty string."""
    return "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path)


def parse_pointer(text: str) -> Path:
    """The path that a JSON Pointer names; raises OperationRefused if it is not one."""
    if text == "":
        return ()
    if not text.startswith("/"):
        raise OperationRefused((), f"the path {text!r} must be empty or begin with a slash")
    if re.search(r"~(?![01])", text):
        raise OperationRefused((), f"in the path {text!r}, write `~0` for a tilde")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))


class Refusal(Exception):
    """The caller's input cannot be taken; `path` says where, `reason` says what to change."""

    def __init__(self, path: Path, reason: str) -> None:
        where = f"at {pointer(path)}: " if path else ""
        super().__init__(where + reason)
        self.path = path
        self.reason = reason

    def below(self, token: str) -> "Refusal":
        """The same refusal, seen from the object that holds the value at `token`."""
        return type(self)((token, *self.path), self.reason)


class NotJson(Refusal):
    """The bytes are not JSON."""


class NotCanonical(Refusal):
    """The value is JSON, but no document may hold it: too deep, too large a number, `\\u0000`."""


class WrongType(Refusal):
    """The value does not have the type that its rule merges."""


class DeviceRequired(Refusal):
    """The rule counts per device, and the write named none."""


class OperationRefused(Refusal):
    """The operation does not exist for the rule at its path."""
