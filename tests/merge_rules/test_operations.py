"""Operations of a PATCH: on every rule each one does what it says, or is refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge_rules import (
    ABSENT,
    DeviceRequired,
    NotCanonical,
    Operation,
    OperationRefused,
    Refusal,
    Rule,
    State,
    WrongType,
    best,
    causal_set,
    counter,
    flag,
    last_write_wins,
    map_of,
    maximum,
    minimum,
    plain,
    record,
    strict,
    union,
)
from merge_rules.canonical import MAX_DEPTH, MAX_INTEGER, check, depth, encode
from merge_rules.refusal import Path, parse_pointer, pointer
from merge_rules.rule import OperationName
from merge_rules.state import decode
from merge_rules.state import encode as store
from merge_rules.testing import (
    operations_of,
    reachable_states,
    same,
    stamps,
    states_of,
    unchanged_by,
)
from merge_rules.testing.generators import OPERATION_NAMES
from tests.merge_rules.strategies import EVERYTHING, RULES, examples, json_values, text

STAMP = (7, 0, "a")


def after(rule: Rule, state: State, op: OperationName, path: str = "", value: Any = ABSENT) -> Any:
    """The plain value once the delta of an operation is joined to the current state."""
    operation = Operation(op, parse_pointer(path), value)
    delta = rule.operate(state, operation, operation.path, STAMP)
    return rule.value(rule.join(state, delta))


# Paths ------------------------------------------------------------------------------------


@examples(100)
@given(st.lists(text | st.sampled_from(["", "/", "~", "~0", "~1", "~01", "a/b~c"])).map(tuple))
def test_a_path_survives_its_pointer(path: Path) -> None:
    """Keys may hold slashes and tildes, and an operation must not land beside its target."""
    assert parse_pointer(pointer(path)) == path


@examples(100)
@given(st.text("/~01a", max_size=8))
def test_a_pointer_is_read_in_one_way_or_refused(text: str) -> None:
    """What is taken for a pointer must be one by RFC 6901, whose spelling is unique."""
    try:
        path = parse_pointer(text)
    except OperationRefused:
        assert (text and not text.startswith("/")) or any(
            not rest.startswith(("0", "1")) for rest in text.split("~")[1:]
        )
    else:
        assert pointer(path) == text


@pytest.mark.parametrize("text", ["a", "a/b", "#/a", " /a", "/~", "/~2", "/a~/b", "/~~0"])
def test_regression_what_is_no_pointer_was_read_as_one(text: str) -> None:
    """`/~2` was read as the key `~2`, whose pointer is `/~02`."""
    with pytest.raises(OperationRefused, match="path") as caught:
        parse_pointer(text)
    assert caught.value.path == ()


# Every operation on every rule ------------------------------------------------------------

HELD: dict[str, tuple[Rule, Any]] = {
    "last_write_wins": (last_write_wins, "text"),
    "strict": (strict, {"a": 1}),
    "maximum": (maximum, 5),
    "minimum": (minimum, 5),
    "flag": (flag, True),
    "best": (best("n"), {"n": 5}),
    "counter": (counter, 5),
    "union": (union, ["x"]),
    "causal_set": (causal_set, ["x"]),
    "map_of": (map_of(maximum), {"k": 5}),
    "removable_map": (map_of(maximum, removable=True), {"k": 5}),
    "record": (record({"k": maximum}), {"k": 5}),
}

OPERANDS: dict[str, Any] = {
    "set": ABSENT,  # the value that the rule holds
    "unset": ABSENT,
    "increment": 1,
    "maximum": 9,
    "minimum": 1,
    "add": "k",
    "remove": "k",
    "reset": ABSENT,
}

SUPPORTED: dict[str, set[str]] = {
    "last_write_wins": {"set", "unset"},
    "strict": {"set"},
    "maximum": {"set", "maximum"},
    "minimum": {"set", "minimum"},
    "flag": {"set"},
    "best": {"set"},
    "counter": {"set", "increment"},
    "union": {"set", "add"},
    "causal_set": {"set", "add", "remove"},
    "map_of": {"set"},
    "removable_map": {"set", "remove"},
    "record": {"set"},
}


@pytest.mark.parametrize("op", OPERATION_NAMES)
@pytest.mark.parametrize("name", HELD)
def test_the_table_of_operations(name: str, op: OperationName) -> None:
    """Each pair of rule and operation is decided: it works, or it is refused at its path."""
    rule, value = HELD[name]
    inside = map_of(rule) if name != "strict" else rule
    path: Path = ("at",) if name != "strict" else ()
    state = inside.adopt({"at": value} if path else value, (1, 0, "b"))
    operand = value if op == "set" else OPERANDS[op]
    operation = Operation(op, path, operand)
    if op in SUPPORTED[name]:
        inside.operate(state, operation, path, STAMP)
    else:
        with pytest.raises(OperationRefused) as caught:
            inside.operate(state, operation, path, STAMP)
        assert caught.value.path == path
        assert op in str(caught.value)


@pytest.mark.parametrize(
    "name", ["maximum", "minimum", "flag", "best", "counter", "union", "causal_set"]
)
def test_no_operation_goes_below_a_value_that_is_merged_whole(name: str) -> None:
    """A path that is too long must not be cut: the operation would land beside its target."""
    rule, value = HELD[name]
    for op in SUPPORTED[name]:
        operand = value if op == "set" else OPERANDS[op]
        operation = Operation(op, ("at", "below"), operand)  # type: ignore[arg-type]
        for inside in (map_of(rule), map_of(rule, removable=True)):
            with pytest.raises(OperationRefused) as caught:
                inside.operate({}, operation, operation.path, STAMP)
            assert caught.value.path == ("at", "below")


@pytest.mark.parametrize(
    ("rule", "value", "op", "path", "operand", "expected"),
    [
        (maximum, 5, "maximum", "", 9, 9),
        (maximum, 5, "maximum", "", 3, 5),
        (maximum, 5, "set", "", 3, 5),
        (minimum, 5, "minimum", "", 3, 3),
        (minimum, 5, "minimum", "", 9, 5),
        (flag, False, "set", "", True, True),
        (flag, True, "set", "", False, True),
        (best("n"), {"n": 1}, "set", "", {"n": 2}, {"n": 2}),
        (counter, 5, "increment", "", -2, 3),
        (counter, 5, "increment", "", 0, 5),
        (counter, 5, "set", "", 9, 9),
        (union, ["x"], "add", "", "y", ["x", "y"]),
        (union, [1], "add", "", True, [1, True]),
        (union, ["x"], "set", "", ["y"], ["x", "y"]),
        (causal_set, ["x"], "add", "", "y", ["x", "y"]),
        (causal_set, ["x"], "add", "", "x", ["x"]),
        (causal_set, ["x"], "remove", "", "x", []),
        (causal_set, ["x"], "remove", "", "y", ["x"]),
        (causal_set, [1], "remove", "", 1.0, [1]),
        (causal_set, ["x"], "set", "", ["y"], ["y"]),
        (map_of(counter), {"k": 1}, "increment", "/k", 2, {"k": 3}),
        (map_of(counter), {"k": 1}, "increment", "/l", 2, {"k": 1, "l": 2}),
        (map_of(counter), {"k": 1}, "increment", "/l", 0, {"k": 1, "l": 0}),
        (map_of(counter), {"k": 1}, "set", "", {"l": 2}, {"k": 1, "l": 2}),
        (map_of(last_write_wins), {"k": 1}, "unset", "/k", ABSENT, {}),
        (map_of(last_write_wins), {"k": 1}, "set", "/k", None, {"k": None}),
        (map_of(flag, removable=True), {"k": True}, "unset", "/k", ABSENT, {}),
        (map_of(flag, removable=True), {"k": True}, "remove", "", "k", {}),
        (map_of(flag, removable=True), {"k": True}, "remove", "", "l", {"k": True}),
        (map_of(flag, removable=True), {"k": True}, "unset", "/l", ABSENT, {"k": True}),
        (map_of(flag, removable=True), {"k": True}, "set", "", {"l": True}, {"l": True}),
        (map_of(flag, removable=True), {}, "set", "/k", False, {"k": False}),
        (map_of(counter, removable=True), {"k": 1}, "increment", "/k", 1, {"k": 2}),
        (map_of(causal_set, removable=True), {"k": ["x"]}, "remove", "/k", "x", {"k": []}),
        (map_of(causal_set, removable=True), {}, "remove", "/k", "x", {}),
        (map_of(record({"n": counter}), removable=True), {}, "set", "/k/n", 2, {"k": {"n": 2}}),
        (record({"xp": counter}), {}, "increment", "/xp", 10, {"xp": 10}),
        (record({"xp": counter}), {}, "increment", "/xp", 0, {"xp": 0}),
        (record({"xp": counter}), {"xp": 1, "a": 2}, "set", "", {"a": 3}, {"xp": 1, "a": 3}),
        (record({}), {"a": 1}, "unset", "/a", ABSENT, {}),
        (record({}), {"a": {"b": {"c": 1}}}, "unset", "/a/b/c", ABSENT, {"a": {"b": {}}}),
        (record({}), {"a": 1}, "increment", "/a", 0.5, {"a": 1.5}),
        (record({}), {}, "increment", "/a/b", 2, {"a": {"b": 2}}),
        (record({}), {"a": [1, 2, 3]}, "set", "/a/1", 9, {"a": [1, 9, 3]}),
        (record({}), {"a": [1, 2, 3]}, "unset", "/a/0", ABSENT, {"a": [2, 3]}),
        (record({}), {"a": [1, 2, 3]}, "unset", "/a/2", ABSENT, {"a": [1, 2]}),
        (record({}), {"a": [1]}, "add", "/a", True, {"a": [1, True]}),
        (record({}), {"a": [1]}, "add", "/a", 1, {"a": [1]}),
        (record({}), {}, "add", "/a", 1, {"a": [1]}),
        (record({}), {"a": [1, 1.0, 1]}, "remove", "/a", 1, {"a": [1.0]}),
        (record({}), {"a": 5}, "maximum", "/a", 7, {"a": 7}),
        (record({}), {"a": 5}, "maximum", "/a", 3, {"a": 5}),
        (record({}), {"a": 5}, "minimum", "/a", 3, {"a": 3}),
        (record({}), {"a": 5}, "minimum", "/a", 7, {"a": 5}),
        (record({}), {}, "minimum", "/a", 7, {"a": 7}),
        (record({}), {"a": 1.5}, "increment", "/a", -1.5, {"a": 0.0}),
        (record({}), {"a": {}}, "increment", "/a/b", 2, {"a": {"b": 2}}),
        (record({}), {"a": {}}, "add", "/a/b/c", 2, {"a": {"b": {"c": [2]}}}),
        (record({}), {}, "increment", "/a", -0.0, {"a": 0.0}),
        (record({}), {"a": 0.5}, "increment", "/a", 0.5, {"a": 1.0}),
        (record({}), {"a": MAX_INTEGER - 1}, "increment", "/a", 1, {"a": MAX_INTEGER}),
        (record({}), {"a": 1}, "maximum", "/a", 1.0, {"a": 1}),
        (record({}), {"a": 1}, "minimum", "/a", 1.0, {"a": 1}),
        (record({}), {"a": [1, {"c": 1}]}, "set", "/a/1/b", 2, {"a": [1, {"b": 2, "c": 1}]}),
        (last_write_wins, {"a": {"b": 1}}, "set", "/a/b", 2, {"a": {"b": 2}}),
        (last_write_wins, {"a": 1}, "set", "", [], []),
        (last_write_wins, {"a": 1}, "unset", "", ABSENT, ABSENT),
        (strict, {"a": 1}, "set", "/a", {"z": 1}, {"a": {"z": 1}}),
    ],
)
def test_operations_do_what_they_say(
    rule: Rule, value: Any, op: OperationName, path: str, operand: Any, expected: Any
) -> None:
    """The plain value after the operation is what its name promises a user."""
    assert same(after(rule, rule.adopt(value, (1, 0, "b")), op, path, operand), expected)


@pytest.mark.parametrize(
    ("value", "op", "path", "operand", "error"),
    [
        ({"a": "x"}, "increment", "/a", 1, OperationRefused),
        ({"a": True}, "increment", "/a", 1, OperationRefused),
        ({"a": 1}, "increment", "/a", True, WrongType),
        ({"a": 1}, "maximum", "/a", "9", WrongType),
        ({"a": 1}, "increment", "/a", ABSENT, WrongType),
        ({"a": MAX_INTEGER}, "increment", "/a", 1, OperationRefused),
        ({"a": -MAX_INTEGER}, "increment", "/a", -1, OperationRefused),
        ({"a": 1.7e308}, "increment", "/a", 1.7e308, OperationRefused),
        ({"a": 1}, "add", "/a", 1, OperationRefused),
        ({"a": {}}, "remove", "/a", 1, OperationRefused),
        ({"a": [1]}, "set", "/a/1", 1, OperationRefused),
        ({"a": [1, 2]}, "set", "/a/01", 1, OperationRefused),  # RFC 6901: no leading zeros
        ({"a": [1]}, "set", "/a/-", 1, OperationRefused),
        ({"a": [1]}, "set", "/a/x", 1, OperationRefused),
        ({"a": [1]}, "set", "/a/²", 1, OperationRefused),
        ({"a": [1]}, "set", "/a/99999999999999999999", 1, OperationRefused),
        ({"a": [1]}, "set", "/a/0000000000", 1, OperationRefused),
        ({"a": 1}, "set", "/a/b", 1, OperationRefused),
        ({"a": None}, "set", "/a/b", 1, OperationRefused),
        ({"a": 1}, "reset", "", ABSENT, OperationRefused),
        ({"a": 1}, "set", "/a", ABSENT, WrongType),
        ({"a": [1]}, "add", "/a", ABSENT, WrongType),
        ({"a": [1]}, "remove", "/a", ABSENT, WrongType),
    ],
)
def test_plain_operations_that_cannot_be_done_are_refused_at_their_path(
    value: Any, op: OperationName, path: str, operand: Any, error: type[Refusal]
) -> None:
    """A refusal names the whole path, so that the client's author finds the line."""
    operation = Operation(op, parse_pointer(path), operand)
    unchanged = unchanged_by(value)
    with pytest.raises(error) as caught:
        plain.apply(value, operation, operation.path)
    assert caught.value.path == operation.path
    unchanged()


@pytest.mark.parametrize(
    "field", ["top", "done", "star", "count", "items", "tags", "levels", "themes", "inner"]
)
def test_a_merged_field_cannot_be_taken_away(field: str) -> None:
    """Its state would come back with the next merge; the text says which rule stands there."""
    state = EVERYTHING.adopt({"top": 1}, (1, 0, "b"))
    with pytest.raises(OperationRefused, match=f"'{field}' is a .* cannot be taken away"):
        after(EVERYTHING, state, "unset", f"/{field}")


def test_an_increment_needs_a_device() -> None:
    """An increment of nobody could not be told from its own retry."""
    with pytest.raises(DeviceRequired, match="send `device`"):
        counter.operate({}, Operation("increment", (), 1), (), (1, 0, ""))
    with pytest.raises(DeviceRequired):
        counter.delta({}, 1, (1, 0, ""))
    assert counter.delta({}, 0, (1, 0, "")) == {}
    for rule in (record({"n": counter}), map_of(counter), map_of(counter, removable=True)):
        with pytest.raises(DeviceRequired) as caught:
            map_of(rule).delta({}, {"at": {"n": 1}}, (1, 0, ""))
        assert caught.value.path == ("at", "n")


@pytest.mark.parametrize("amount", [1, -1])
def test_a_device_cannot_count_past_what_json_carries(amount: int) -> None:
    """The entry of a device is stored as a number, too."""
    state = {"a": (1, amount * MAX_INTEGER), "b": (1, -amount)}
    with pytest.raises(WrongType, match="too large"):
        after(counter, state, "increment", "", amount)
    assert counter.delta({"a": (1, 0)}, amount * MAX_INTEGER, STAMP) == {
        "a": (2, amount * MAX_INTEGER)
    }


def test_an_operation_that_changes_nothing_makes_no_version() -> None:
    """A strict document set to what it holds is as it was: every device keeps its version."""
    assert strict.operate(({"a": 1},), Operation("set", ("a",), 1), ("a",), STAMP) is None
    themes = map_of(last_write_wins, removable=True)
    for operation in (Operation("unset", ("a",)), Operation("remove", (), "a")):
        assert themes.operate({}, operation, operation.path, STAMP) == {}
    assert maximum.operate(9, Operation("maximum", (), 5), (), STAMP) is None
    none = Operation("increment", ("n",), 0)
    assert record({"n": counter}).operate({"n": {"a": (1, 1)}}, none, ("n",), STAMP) == {}
    tags = map_of(causal_set, removable=True)
    taken = Operation("remove", ("k",), "x")
    assert tags.operate({"k": (2, {})}, taken, taken.path, STAMP) == {}


def test_an_operation_under_a_key_goes_on_from_its_state() -> None:
    """An increment is the device's next write, at the length at which the key is there."""
    operation = Operation("increment", ("k",), 1)
    state = {"k": (3, {"a": (4, 10)})}
    delta = map_of(counter, removable=True).operate(state, operation, ("k",), STAMP)
    assert delta == {"k": (3, {"a": (5, 11)})}


def test_the_refusal_of_a_number_names_its_path() -> None:
    """Of many operations in one request the client's author has to find the one."""
    operation = Operation("set", ("n",), "x")
    with pytest.raises(WrongType) as wrong:
        record({"n": maximum}).operate({}, operation, ("n",), STAMP)
    assert wrong.value.path == ("n",)
    rule = record({"n": counter})
    for amount, device in (("x", "a"), (1, ""), (MAX_INTEGER, "a")):
        operation = Operation("increment", ("n",), amount)
        with pytest.raises((WrongType, DeviceRequired)) as caught:
            rule.operate({"n": {"a": (1, 1)}}, operation, ("n",), (7, 0, device))
        assert caught.value.path == ("n",)


# Arbitrary operations ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RULES, "strict"])
def test_any_operation_is_done_or_refused(name: str) -> None:
    """An operation comes from outside: it may be refused, never crash or break the document."""
    rule = strict if name == "strict" else RULES[name]
    states = st.none() | json_values(4).map(lambda v: (v,))
    if name != "strict":
        states = states_of(rule) | reachable_states(rule, 1).map(lambda s: s[0])

    @examples(75, name)
    @given(states, operations_of(rule), stamps() | st.just((1, 0, "")))
    def law(state: State, operation: Operation, stamp: tuple[int, int, str]) -> None:
        unchanged = unchanged_by(state, operation)
        try:
            delta = rule.operate(state, operation, operation.path, stamp)
        except (OperationRefused, WrongType, DeviceRequired):
            return
        finally:
            unchanged()
        if name == "strict":
            if delta is not None:
                check(rule.value(delta))
            assert same(rule.apply(state, delta), state if delta is None else delta)
            return
        joined = rule.join(state, delta)
        assert same(rule.join(state, joined), joined)
        assert same(rule.join(delta, joined), joined)
        value = rule.value(joined)
        if value is not ABSENT:
            check(value)
        assert same(decode(rule, store(rule, joined)), joined)
        if operation.takes_away and rule.value(state) is not ABSENT and isinstance(value, dict):
            assert {*value} <= {*rule.value(state)}

    law()


@examples(200)
@given(
    json_values(6) | st.just(ABSENT),
    st.sampled_from(OPERATION_NAMES),
    st.lists(st.sampled_from(["a", "b", "0", "1", "", "-"]) | text, max_size=4).map(tuple),
    json_values(4) | st.just(ABSENT) | st.integers(-3, 3),
)
def test_plain_operations_are_done_or_refused(
    value: Any, op: OperationName, path: Path, operand: Any
) -> None:
    """Last write wins takes any value, so any path may meet anything."""
    unchanged = unchanged_by(value, operand)
    try:
        result = plain.apply(value, Operation(op, path, operand), path)
    except (OperationRefused, WrongType):
        return
    finally:
        unchanged()
    if result is not ABSENT:
        check(result)
    if op == "set":
        assert same(_at(result, path), operand)
    if op == "unset" and isinstance(_at(value, path[:-1]), dict):
        assert _at(result, path) is ABSENT


def _at(value: Any, path: Path) -> Any:
    for token in path:
        match value:
            case dict():
                value = value.get(token, ABSENT)
            case list() if token.isdigit() and int(token) < len(value):
                value = value[int(token)]
            case _:
                return ABSENT
    return value


# Kept counterexamples ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "op"),
    [
        (last_write_wins, "set"),
        (last_write_wins, "add"),
        (union, "add"),
        (causal_set, "add"),
        (causal_set, "remove"),
        (strict, "set"),
        (maximum, "maximum"),
        (counter, "increment"),
    ],
)
def test_regression_a_missing_operand_was_taken_for_a_value(rule: Rule, op: OperationName) -> None:
    """`set` without a value took the field away, `add` put the string "absent" into the set."""
    with pytest.raises(WrongType):
        rule.operate(rule.bottom, Operation(op, ()), (), STAMP)


@pytest.mark.parametrize(
    "rule",
    [
        record({}),
        map_of(last_write_wins),
        map_of(record({})),
        map_of(record({}), removable=True),
        record({"a": map_of(last_write_wins)}),
        record({"a": record({})}),
        record({"a": map_of(causal_set)}),
    ],
)
@pytest.mark.parametrize("path", ["/a/b", "/a/b/c"])
def test_regression_taking_away_what_is_not_there_made_it(rule: Rule, path: str) -> None:
    """`unset /a/b` on an empty document made an empty object at /a."""
    for op, operand in (("unset", ABSENT), ("remove", "x")):
        operation = Operation(op, parse_pointer(path), operand)  # type: ignore[arg-type]
        try:
            delta = rule.operate(rule.bottom, operation, operation.path, STAMP)
        except OperationRefused:
            continue
        assert same(delta, rule.bottom)


def test_regression_unset_made_a_document_out_of_nothing() -> None:
    """On a document that was never written, `unset /a` left an empty object behind."""
    assert last_write_wins.operate(None, Operation("unset", ("a",)), ("a",), STAMP) is None
    assert strict.operate(None, Operation("unset", ("a",)), ("a",), STAMP) is None


def test_regression_unset_of_a_strict_document_stored_no_value() -> None:
    """It made a state that held ABSENT, which storage could not give back."""
    with pytest.raises(OperationRefused, match="delete the document"):
        strict.operate((1,), Operation("unset", ()), (), STAMP)


def test_regression_a_path_of_thousands_of_tokens() -> None:
    """It made an object as deep as the path, or ended in a RecursionError."""
    for rule in (last_write_wins, strict, record({}), map_of(last_write_wins)):
        for op in ("set", "unset", "increment", "add"):
            operation = Operation(op, ("a",) * 5000, 1)
            with pytest.raises(OperationRefused, match="32 levels") as caught:
                rule.operate(rule.bottom, operation, operation.path, STAMP)
            assert caught.value.path == ()


def test_a_path_may_use_every_level() -> None:
    """The last of 32 levels holds a value like any other."""
    for op in ("set", "increment"):
        operation = Operation(op, ("a",) * MAX_DEPTH, 1)
        state = record({}).operate({}, operation, operation.path, STAMP)
        assert depth(encode(record({}).value(state))) == MAX_DEPTH
        deeper = operation._replace(path=("a",) * (MAX_DEPTH + 1))
        with pytest.raises((OperationRefused, NotCanonical)):
            record({}).operate({}, deeper, deeper.path, STAMP)


@pytest.mark.parametrize(
    ("rule", "op", "levels"),
    [
        (record({}), "set", 1),
        (record({}), "add", 2),
        (map_of(union), "add", 2),
        (map_of(causal_set), "add", 2),
    ],
)
def test_regression_an_operand_could_pass_the_depth_limit(
    rule: Rule, op: OperationName, levels: int
) -> None:
    """Path and operand are each within the limit; the document they make was not."""
    operand: Any = 1
    for _ in range(MAX_DEPTH - levels):
        operand = [operand]
    value = after(rule, rule.bottom, op, "/a", operand)
    assert depth(encode(value)) == MAX_DEPTH
    check(value)
    with pytest.raises(NotCanonical, match="deeper") as caught:
        after(rule, rule.bottom, op, "/a", [operand])
    assert caught.value.path == ()


def test_the_refusal_of_an_operation_names_it_and_the_rule() -> None:
    """`maximum` below a maximum was refused in the name of `set`."""
    operation = Operation("maximum", ("k", "deeper"), 1)
    with pytest.raises(OperationRefused) as caught:
        map_of(maximum).operate({}, operation, operation.path, STAMP)
    assert str(caught.value) == "at /k/deeper: `maximum` does not apply to maximum"
