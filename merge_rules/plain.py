"""Operations on plain JSON, for rules that keep a value whole and do not look inside."""

import re
from typing import Any

from merge_rules.canonical import MAX_DEPTH, MAX_INTEGER, same
from merge_rules.refusal import OperationRefused, Path, WrongType
from merge_rules.rule import ABSENT, Operation

_INDEX = re.compile("0|[1-9][0-9]{0,8}")
"""The place of an item as a JSON Pointer says it (RFC 6901 §4), without leading zeros."""


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def apply(value: Any, operation: Operation, path: Path) -> Any:
    """The value after the operation at `path` below it; ABSENT stands for no value.

    Missing objects on the way are made, unless something is to be taken away. Raises
    OperationRefused, WrongType or NotCanonical, naming the whole path of the operation. The
    value given is not changed.
    """
    if len(operation.path) > MAX_DEPTH:
        raise OperationRefused((), f"the path is longer than {MAX_DEPTH} levels")
    if not path:
        return _apply_here(value, operation)
    token, rest = path[0], path[1:]
    if value is ABSENT:
        inside = apply(ABSENT, operation, rest)
        return ABSENT if inside is ABSENT else {token: inside}
    if isinstance(value, dict):
        inside = apply(value.get(token, ABSENT), operation, rest)
        others = {key: item for key, item in value.items() if key != token}
        return others if inside is ABSENT else {**others, token: inside}
    if isinstance(value, list):
        return _apply_in_list(value, operation, token, rest)
    raise OperationRefused(operation.path, "there is no object or array on the way to it")


def _apply_in_list(value: list[Any], operation: Operation, token: str, rest: Path) -> list[Any]:
    index = int(token) if _INDEX.fullmatch(token) else len(value)
    if index >= len(value):
        raise OperationRefused(operation.path, f"the array has no item {token!r}")
    inside = apply(value[index], operation, rest)
    kept = [] if inside is ABSENT else [inside]
    return [*value[:index], *kept, *value[index + 1 :]]


def _apply_here(value: Any, operation: Operation) -> Any:
    op, operand = operation.op, operation.value
    match op:
        case "set":
            return operation.operand()
        case "unset":
            return ABSENT
        case "increment" | "maximum" | "minimum":
            if value is not ABSENT and not is_number(value):
                raise OperationRefused(operation.path, f"`{op}` needs a number there")
            if not is_number(operand):
                raise WrongType(operation.path, f"`{op}` takes a number")
            return _arithmetic(value, operation)
        case "add" | "remove":
            if value is not ABSENT and not isinstance(value, list):
                raise OperationRefused(operation.path, f"`{op}` needs an array there")
            operand = operation.operand(levels=1)
            items = [] if value is ABSENT else value
            held = any(same(item, operand) for item in items)
            if op == "add":
                return value if held else [*items, operand]
            return [item for item in items if not same(item, operand)] if held else value
        case _:
            raise OperationRefused(operation.path, f"`{op}` applies to the whole document only")


def _arithmetic(value: Any, operation: Operation) -> Any:
    operand = operation.value
    if operation.op == "increment":
        result = operand if value is ABSENT else value + operand
        whole = isinstance(result, int) and abs(result) <= MAX_INTEGER
        fraction = isinstance(result, float) and abs(result) != float("inf")
        if not whole and not fraction:
            raise OperationRefused(operation.path, "the sum is too large for a JSON number")
        return 0.0 if isinstance(result, float) and result == 0 else result
    if value is ABSENT:
        return operand
    better = operand > value if operation.op == "maximum" else operand < value
    return operand if better else value
