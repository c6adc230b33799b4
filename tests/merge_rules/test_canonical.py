"""The gate through which every outside value comes: canonical, bounded, and quick to refuse."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from merge_rules import NotCanonical, NotJson, Refusal
from merge_rules.canonical import (
    MAX_DEPTH,
    MAX_INTEGER,
    check,
    decode,
    depth,
    encode,
    parse,
    too_deep,
    without_lone_surrogates,
)
from merge_rules.canonical import same as canonical_same
from merge_rules.testing import exact, same
from tests.merge_rules.strategies import examples, json_values, scalars, text


def refusal(data: bytes, max_keys: int | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(data, max_keys)
    return caught.value


# Against an oracle ------------------------------------------------------------------------


def oracle(data: bytes) -> Any:
    """The value by the standard library; ValueError where no document may hold it."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise ValueError("duplicate key")
        return dict(items)

    def constant(name: str) -> Any:
        raise ValueError(name)

    value = json.loads(data.decode(), object_pairs_hook=pairs, parse_constant=constant)
    return _checked(value, 0)


def _checked(value: Any, level: int) -> Any:
    match value:
        case dict() | list() if level == 32:
            raise ValueError("too deep")
        case dict():
            return {_checked(k, 33): _checked(v, level + 1) for k, v in value.items()}
        case list():
            return [_checked(item, level + 1) for item in value]
        case str():
            value.encode()
            if "\0" in value:
                raise ValueError("NUL")
            return value
        case float():
            if abs(value) == float("inf"):
                raise ValueError("infinity")
            return value if value else 0.0
        case int() if not isinstance(value, bool) and abs(value) > 2**53 - 1:
            raise ValueError("too large")
        case _:
            return value


def assert_agrees_with_the_oracle(data: bytes) -> None:
    try:
        expected = oracle(data)
    except (ValueError, RecursionError):
        with pytest.raises((NotJson, NotCanonical)):
            parse(data)
        return
    value, canonical = parse(data)
    assert same(value, expected)
    assert canonical == exact(expected)


@examples(120)
@given(json_values(), st.sampled_from([None, 0, 2]), st.booleans(), st.booleans())
def test_other_writers_json_reads_as_its_value(
    value: Any, indent: int | None, escaped: bool, ordered: bool
) -> None:
    """Clients space, escape and order JSON as they like; the document is the same."""
    data = json.dumps(value, indent=indent, ensure_ascii=escaped, sort_keys=ordered).encode()
    parsed, canonical = parse(data)
    assert same(parsed, value)
    assert canonical == exact(value)
    check(parsed)


@examples(120)
@given(json_values())
def test_canonical_bytes_are_a_fixed_point(value: Any) -> None:
    """Stored bytes that changed when read and written again would never converge."""
    assert parse(encode(value)) == (value, encode(value))
    assert same(decode(encode(value)), value)
    assert json.loads(encode(value)) == value


SNIPPETS = [
    b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\\u0000", b"\\\\u0000", b"\\u0022",
    b"\\ud800", b"\\ude00", b"\xed\xa0\x80", b"\xff", b"-0.0", b"-0", b"-", b"1e400", b"e9", b"0",
    b".", b"NaN", b"Infinity", b"9007199254740991", b"9007199254740992", b"1" * 30, b"null",
    b"true", b'"a"', b'"\\u0061"', b'{"a":1,"a":1}', b'"":', b"\x00", b"\n", b" ", b"\xef\xbb\xbf",
]  # fmt: skip


@examples(300)
@given(
    json_values(6).map(exact),
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.sampled_from(SNIPPETS)), max_size=3
    ),
)
def test_damaged_json_is_judged_like_the_oracle(
    data: bytes, damages: list[tuple[int, int, bytes]]
) -> None:
    """Near-JSON is where two parsers part; a document must mean one thing to all readers."""
    for place, cut, snippet in damages:
        place %= len(data) + 1
        data = data[:place] + snippet + data[place + cut :]
    assert_agrees_with_the_oracle(data)


@examples(200)
@given(st.lists(st.sampled_from(SNIPPETS), max_size=12).map(b"".join) | st.binary(max_size=20))
@example(b"")
@example(b" ")
@example(b"\xff\xfe1\x00")
def test_garbage_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    """Any other exception than a refusal is a 500 that an outsider can cause."""
    assert_agrees_with_the_oracle(data)


# Numbers ----------------------------------------------------------------------------------

PLACES: list[Callable[[bytes], bytes]] = [
    lambda item: item,
    lambda item: b"[" + item + b"]",
    lambda item: b'{"a":[1,{"b":' + item + b"}]}",
    lambda item: b' { "x" : "\\u0022" , "a" : ' + item + b" } ",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("number", "read"),
    [
        (b"-0.0", 0.0),
        (b"-0", 0),
        (b"-0e7", 0.0),
        (b"-1e-400", 0.0),
        (b"1.0", 1.0),
        (b"1", 1),
        (b"9007199254740991", MAX_INTEGER),
        (b"-9007199254740991", -MAX_INTEGER),
        (b"9007199254740993.0", 9007199254740992.0),
        (b"1e22", 1e22),
    ],
)
def test_numbers_keep_their_kind(
    place: Callable[[bytes], bytes], number: bytes, read: float
) -> None:
    """1 and 1.0 are two values, -0.0 is none, and a float may exceed what an integer may."""
    value, canonical = parse(place(number))
    assert exact(read) in canonical
    assert b"-0" not in canonical
    assert same(value, json.loads(place(exact(read))))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "number",
    [
        b"9007199254740992",
        b"-9007199254740992",
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"1" * 40,
        b"-" + b"9" * 400,
    ],
)
def test_integers_that_javascript_would_round_are_refused(
    place: Callable[[bytes], bytes], number: bytes
) -> None:
    """Past 2^53 - 1 a browser reads another number than was written, without a word."""
    error = refusal(place(number))
    assert isinstance(error, NotCanonical)
    assert "2^53" in error.reason


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "number",
    [b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"1."],
)
def test_what_json_has_no_number_for_is_not_json(
    place: Callable[[bytes], bytes], number: bytes
) -> None:
    """What other decoders let through could never be written down again."""
    assert isinstance(refusal(place(number)), NotJson)


def test_the_refused_number_is_named_by_its_path() -> None:
    """In a document of 200 fields the reader needs to know which one."""
    assert refusal(b'{"a":[1,{"b/c":9007199254740992}]}').path == ("a", "1", "b/c")


def test_minus_zero_text_is_left_alone() -> None:
    """Only numbers are mended; a string that looks like one is the user's."""
    assert parse(b'{"-0.0":["-0.0",-0.0]}')[1] == b'{"-0.0":["-0.0",0.0]}'


# Strings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b'"\\u0000"', b'["a\\u0000b"]', b'{"\\u0000":1}', b'{"a":{"b\\u0000":1}}', b'"\\\\\\u0000"'],
)
def test_nul_is_refused_in_values_and_keys(data: bytes) -> None:
    """PostgreSQL cannot hold it in text, so it must not get that far."""
    assert isinstance(refusal(data), NotCanonical)
    assert "u0000" in refusal(data).reason


@pytest.mark.parametrize("data", [b'"\\\\u0000"', b'{"\\\\u0000":"\\\\u0000"}'])
def test_an_escaped_backslash_before_u0000_is_no_nul(data: bytes) -> None:
    """The bytes look like NUL to a scan; they are a backslash and five characters."""
    value, canonical = parse(data)
    assert canonical == data
    assert "\\u0000" in value


@pytest.mark.parametrize(
    "body",
    [
        b"\\ud800", b"\\udc00", b"\\ud800\\u0041", b"\\ud800\\ud800", b"\\udc00\\ud800",
        b"a\\ud83d", b"\\ud83d\\u0022", b"\\ud83d\\ude00\\ude00", b"\\uDBFF", b"\\\\\\ud83d",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [b'"%s"', b'["%s"]', b'{"%s":1}', b'{"k":"x%sx"}'])
def test_lone_surrogates_are_refused(body: bytes, place: bytes) -> None:
    """Half a character has no UTF-8, and would break whatever writes it next. It is JSON all the
    same, so the refusal says what is wrong with the value, and where."""
    found = refusal(place % body)
    assert isinstance(found, NotCanonical)
    assert "lone surrogates" in found.reason
    assert found.path == {b"[": ("0",), b'{"k': ("k",)}.get(place[: 1 + 2 * (b"k" in place)], ())


@pytest.mark.parametrize("body", [b"\xed\xa0\x80", b"\xed\xb0\x80"])
def test_surrogates_in_utf8_are_no_utf8(body: bytes) -> None:
    """Some encoders write them; as bytes they are not text."""
    assert isinstance(refusal(b'"%s"' % body), NotJson)


@pytest.mark.parametrize("data", [b'"\\\\ud83d"', b'{"\\\\ud83d":"\\\\\\\\udc00"}'])
def test_an_escaped_backslash_before_a_surrogate_is_text(data: bytes) -> None:
    """The bytes look like half a character to a scan; they are a backslash and five others."""
    assert parse(data)[1] == data


def test_the_byte_that_hides_an_escaped_backslash_is_not_json() -> None:
    """It stands in for one while surrogates are looked for, and must not come out as one."""
    for text_ in (b"\\ud83d\\ude00", b"\\ud800"):
        assert isinstance(refusal(b'"' + text_ + b'\0\0"'), NotJson)


def test_half_a_character_becomes_one_that_is_refused_as_well() -> None:
    """What is around it stays, so that the refusal finds it at its place."""
    assert without_lone_surrogates(b'{"a":"x\\ud800y\\\\"}') == b'{"a":"x\\u0000y\\\\"}'


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" * 5000])
def test_numbers_past_a_double_are_json_that_no_document_may_hold(
    place: Callable[[bytes], bytes], number: bytes
) -> None:
    """An overflow read as infinity could never be written down again. The text is JSON all the
    same, so that is not what has to be corrected."""
    assert isinstance(refusal(place(number)), NotCanonical)


def test_a_pair_of_surrogates_is_one_character() -> None:
    """JSON escapes characters beyond the first plane in pairs, which are fine."""
    assert parse(b'"\\ud83d\\ude00"') == ("\U0001f600", '"\U0001f600"'.encode())


@pytest.mark.parametrize(
    "data", [b"\xff", b'"\xff"', b'{"\xc3":1}', b'"\xc0\xaf"', b"\xef\xbb\xbf1"]
)
def test_invalid_utf8_is_not_json(data: bytes) -> None:
    """Overlong forms, cut sequences and byte-order marks have no one reading."""
    assert isinstance(refusal(data), NotJson)


def test_keys_are_sorted_by_their_utf8_bytes() -> None:
    """Sorting by UTF-16, as JavaScript does, puts astral characters in another place."""
    keys = ["\U00010000", "\uffff", "é", "z", "a", ""]
    canonical = parse(json.dumps(dict.fromkeys(keys, 1)).encode())[1]
    assert [*json.loads(canonical)] == sorted(keys, key=str.encode)


# Duplicate keys ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"":0,"":0}',
        b'[{"x":{"a":1,"b":2,"a":3}}]',
        b'{"\\u0022":1,"a":2,"a":3}',
        b'{"a\\u0022b":"\\u0022","a\\u0022b":0}',
        b'{"a":"x","a":1}',
        b'{"a":{"b":"c"},"a":{}}',
        b'{"\\u0022\\u0022":1,"k":1,"k":2}',
        b'{"\xc3\xa9":1,"\\u00e9":2}',
        b'{"\\/":1,"/":2}',
    ],
)
def test_duplicate_keys_are_refused(data: bytes) -> None:
    """A decoder keeps one of two and drops the other in silence: a lost edit."""
    error = refusal(data)
    assert isinstance(error, NotCanonical)
    assert "twice" in error.reason


@examples(80)
@given(st.dictionaries(text, scalars, min_size=1, max_size=4), st.data())
def test_any_key_repeated_in_any_spelling_is_refused(
    value: dict[str, Any], data: st.DataObject
) -> None:
    """The scan counts quotes, so keys and values full of quotes and escapes must not fool it."""
    key = data.draw(st.sampled_from(sorted(value)))
    spelled = "".join(f"\\u{unit:04x}" for unit in _utf16(key))
    plain = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    twice = f'{plain[:-1]},"{spelled}":{json.dumps(data.draw(scalars))}}}'
    assert "twice" in refusal(twice.encode()).reason
    assert "twice" in refusal(f'[0,{{"in":{twice}}}]'.encode()).reason


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [raw[i] << 8 | raw[i + 1] for i in range(0, len(raw), 2)]


def test_equal_keys_in_different_objects_are_no_duplicates() -> None:
    """The same field name in two objects is the commonest thing in JSON."""
    data = b'{"\\u0022a":{"a":1},"b":[{"a":1},{"a":1}]}'
    assert parse(data)[1] == b'{"\\"a":{"a":1},"b":[{"a":1},{"a":1}]}'


# Depth ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")]
)
def test_32_levels_are_the_limit(opening: bytes, closing: bytes) -> None:
    """The limit must lie exactly where the documentation puts it, for arrays and objects."""
    per = len(closing)
    times = MAX_DEPTH // per
    fits = opening * times + b"1" + closing * times
    value, canonical = parse(fits)
    assert canonical == fits
    check(value)
    deeper = b"[" + fits + b"]"
    assert "deeper than 32" in refusal(deeper).reason
    with pytest.raises(NotCanonical) as caught:
        check([value])
    assert caught.value.path == ()


@pytest.mark.parametrize("inside", [b"[]", b"{}"])
def test_an_empty_container_is_a_level(inside: bytes) -> None:
    """An empty array at level 33 nests as deep as a full one."""
    parse(b"[" * 31 + inside + b"]" * 31)
    assert isinstance(refusal(b"[" * 32 + inside + b"]" * 32), NotCanonical)


def test_wide_and_deep_is_not_too_deep() -> None:
    """Counting brackets is only a first look, also at a document that uses all its levels."""
    deep = b"[" * 31 + b"]" * 31
    parse(b"[" + deep + b"," + deep + b"]")
    parse(b"[" + b",".join([b"[1]"] * 40) + b"]")


def test_other_limits_of_depth() -> None:
    """A request holds documents, and so may be deeper than they are."""
    assert not too_deep(b"[" * 40 + b"]" * 40, 40)
    assert too_deep(b"[" * 41 + b"]" * 41, 40)
    assert depth(b"[" * 50, 40) == depth(b"[" * 50 + b"]" * 50, 40) == 41


def test_siblings_and_brackets_in_strings_are_no_levels() -> None:
    """Counting brackets is only a first look; wide documents and ASCII art are allowed."""
    values: list[Any] = [
        [[]] * 100,
        ["[" * 100],
        {"{" * 100: '\\"[[[['},
        ["\\", "[" * 40, '"' + "{" * 40],
    ]
    for value in values:
        assert same(parse(encode(value))[0], value)
        assert depth(encode(value)) <= 2


HOSTILE = {
    "arrays": b"[" * 100_000,
    "balanced": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000,
    "mixed": b'[{"a":' * 50_000 + b"1",
    "unclosed_string": b'["' + b"[" * 100_000,
    "unclosed_string_of_quotes": b"[" * 33 + b'"' + b'\\"' * 200_000,
    "escapes": b"[" * 33 + b'"' + b"\\\\" * 200_000 + b'"',
    "odd_escape_at_the_end": b"[" * 33 + b'"' + b'\\"' * 100_000 + b"\\",
    "strings": b"[" * 40 + b'"[",' * 100_000,
    "closing_first": b"]" * 100_000 + b"[" * 100_000,
    "quotes": b"[" * 40 + b'"' * 200_001,
    "in_a_string_after_garbage": b'\\"' + b"[" * 100_000,
    "keys": b"{" + b",".join(b'"%d":1' % n for n in range(50_000)) + b',"49999":2}',
    "digits": b"[" + b"1" * 1_000_000 + b"]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_quickly(name: str) -> None:
    """One request must not hold a worker: no recursion, no time that grows with the square."""
    started = time.process_time()
    error = refusal(HOSTILE[name], max_keys=1000)
    assert time.process_time() - started < 1.0
    assert isinstance(error, NotJson | NotCanonical)


def test_regression_an_unclosed_string_took_quadratic_time() -> None:
    """40 KB held a worker for five seconds: the scan began again at every escaped quote."""
    started = time.process_time()
    refusal(b"[" * 33 + b'"' + b'\\"' * 20_000)
    assert time.process_time() - started < 0.2


def test_regression_finding_the_duplicate_took_quadratic_time() -> None:
    """The message looked for the name by counting each key among all of them."""
    names = b",".join(b'"k%d":0' % n for n in range(20_000))
    started = time.process_time()
    assert "'k19999'" in refusal(b"{" + names + b',"k19999":1}').reason
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "data", [b"[" * 33 + b"]" * 33, b"1e999", b"{", b'{"a":1,"a":2}', b'{"a":{"b":{"c":1}}}']
)
def test_a_refusal_of_the_whole_text_names_the_whole_document(data: bytes) -> None:
    """A client reads the path as a JSON Pointer, and the empty one is the document."""
    assert refusal(data, max_keys=2).path == ()


# Keys, check, same ------------------------------------------------------------------------


def test_too_many_keys_are_refused() -> None:
    """The limit counts object keys at all depths, and nothing that only looks like one."""
    data = b'{"a":{"b":1},"c":[{"d":"\\":\\":"}]}'
    assert parse(data, max_keys=4)[1] == data
    error = refusal(data, max_keys=3)
    assert isinstance(error, NotCanonical)
    assert "more than 3" in error.reason
    parse(b"{}", max_keys=0)
    assert isinstance(refusal(b'{"a":1}', max_keys=0), NotCanonical)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), ()),
        ([float("inf")], ("0",)),
        ({"a": -float("inf")}, ("a",)),
        ([1, -0.0], ("1",)),
        (2**53, ()),
        ([-(2**53)], ("0",)),
        ("\ud800", ()),
        ({"a": {"\udc00": 1}}, ("a",)),
        ("\0", ()),
        ({"\0": 1}, ()),
        ({1: 2}, ()),
        ([{1, 2}], ("0",)),
        ({"a": b"bytes"}, ("a",)),
        ((1, (object(),)), ("1", "0")),
    ],
)
def test_check_names_what_no_document_may_hold(value: Any, path: tuple[str, ...]) -> None:
    """Values that never were JSON text, such as a rule's own results, pass the same gate."""
    with pytest.raises(NotCanonical) as caught:
        check(value)
    assert caught.value.path == path


@examples(60)
@given(json_values())
def test_check_lets_documents_pass(value: Any) -> None:
    """What can be parsed can be checked: the two gates agree."""
    check(value)


@examples(120)
@given(json_values(4) | scalars, json_values(4) | scalars)
@example(1, True)
@example(1, 1.0)
@example(0, False)
@example([1], [True])
@example({"a": 1, "b": 2}, {"b": 2, "a": 1})
@example(None, None)
def test_same_is_equality_of_canonical_bytes(a: Any, b: Any) -> None:
    """The shortcuts for plain types must not change the answer."""
    assert canonical_same(a, b) == (exact(a) == exact(b))
    assert canonical_same(a, decode(encode(a)))
