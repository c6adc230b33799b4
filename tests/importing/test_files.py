"""Files as people really have them: one bad row costs itself and nothing else."""

import asyncio
import csv
import io
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.operations.importing import files
from app.operations.importing.files import FileSource
from app.operations.importing.rows import Row
from app.operations.importing.source import SourceError, Unreadable
from tests.importing.world import World, mapping

LIMIT = 1_000


def read(path: Path, limit: int = LIMIT) -> list[Row | Unreadable]:
    async def rows() -> list[Row | Unreadable]:
        source = FileSource(path, limit)
        await source.open([])
        return [row async for chunk in source.chunks(None) for row in chunk.rows]

    return asyncio.run(rows())


def shown(rows: list[Row | Unreadable]) -> list[Any]:
    """A row as its columns, what is none as its reason."""
    return [
        {
            name: str(cell) if isinstance(cell, str) else bytes(cell)
            for name, cell in row.columns.items()
        }
        if isinstance(row, Row)
        else row.reason.value
        for row in rows
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a,b\r\n1,2\r\n", [{"a": "1", "b": "2"}]),
        (b"\xef\xbb\xbfa,b\n1,2", [{"a": "1", "b": "2"}]),
        (b'a,b\n"1,5","say ""hi"""\n', [{"a": "1,5", "b": 'say "hi"'}]),
        (b'a,b\n"one\ntwo",2\n3,4\n', [{"a": "one\ntwo", "b": "2"}, {"a": "3", "b": "4"}]),
        (b'a,b\n5" disk,2\n3,4\n', [{"a": '5" disk', "b": "2"}, {"a": "3", "b": "4"}]),
        (b"a,b\n\n1,2\n\n", [{"a": "1", "b": "2"}]),
        (b"a,b\n1\n1,2,3\n3,4\n", ["malformed-row", "malformed-row", {"a": "3", "b": "4"}]),
        (
            b'a,b\n"open,2\n"3",4\n5,6\n',
            ["malformed-row", {"a": "3", "b": "4"}, {"a": "5", "b": "6"}],
        ),
        (b'a,b\n"x"y,2\n3,4\n', ["malformed-row", {"a": "3", "b": "4"}]),
        (
            b'a,b\n1,2\n"open until the end,2\n3,4\n',
            [{"a": "1", "b": "2"}, "malformed-row", {"a": "3", "b": "4"}],
        ),
        (b"a,b\n\xff,2\n3,4\n", ["invalid-utf8", {"a": "3", "b": "4"}]),
        (b"a,b\n" + b"x" * 2_000 + b",2\n3,4\n", ["row-too-large", {"a": "3", "b": "4"}]),
        (b'a,b\n"' + b"x\n" * 1_000 + b'",2\n3,4\n', ["row-too-large", {"a": "3", "b": "4"}]),
        (b'a,b\n"' + b"x" * 2_000 + b",2\n3,4\n", ["row-too-large", {"a": "3", "b": "4"}]),
        (b"a,b\n1,\x00\n", [{"a": "1", "b": "\x00"}]),
    ],
)
def test_csv_as_it_comes(tmp_path: Path, text: bytes, expected: list[Any]) -> None:
    """RFC 4180, and what breaks it: a quote that is never closed must not swallow the file."""
    path = tmp_path / "rows.csv"
    path.write_bytes(text)
    assert shown(read(path)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a": 1}\r\n\n{"a": [1, 2]}', [{"a": b"1"}, {"a": b"[1, 2]"}]),
        (b'\xef\xbb\xbf{"a": 1}\n', [{"a": b"1"}]),
        (b'{"a": NaN}\n{"a": 2}\n', ["malformed-row", {"a": b"2"}]),
        (b'{"a": 1, "a": 2}\n{"a":1,"b":2,"a":3}\n', ["malformed-row"] * 2),
        (b'{"a": {"b": 1, "b": 2}}\n', [{"a": b'{"b": 1, "b": 2}'}]),
        (b'{ "a" :1,"b":2 }\n', [{"a": b"1", "b": b"2"}]),
        (b"[1]\n7\nnull\n{\n", ["malformed-row"] * 4),
        (b'{"a": "\xff"}\n{"a": 2}\n', ["invalid-utf8", {"a": b"2"}]),
        (b'{"a": "' + b"x" * 5_000 + b'"}\n{"a": 2}\n', ["row-too-large", {"a": b"2"}]),
        (b'{"a":' + b"[" * 400 + b"]" * 400 + b"}\n", [{"a": b"[" * 400 + b"]" * 400}]),
    ],
)
def test_json_lines_as_they_come(tmp_path: Path, text: bytes, expected: list[Any]) -> None:
    """Each line stands alone; what is no JSON object is told by its line."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text)
    assert shown(read(path)) == expected


def test_a_line_that_is_deeper_than_any_decoder(tmp_path: Path) -> None:
    """A decoder that recurses must not end the import."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b'}\n{"a": 2}\n')
    assert shown(read(path, 1_000_000)) == ["malformed-row", {"a": b"2"}]


def test_positions_are_the_numbers_of_rows(tmp_path: Path) -> None:
    """The operator looks them up."""
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\n1,2\n"bad\n5,6\n')
    assert [row.position for row in read(path)] == ["row 1", "row 2", "row 3"]


@pytest.mark.parametrize("header", ["", "a,a\n", "a,,b\n", '"a\n'])
def test_a_csv_file_names_its_columns(tmp_path: Path, header: str) -> None:
    """Otherwise the first person is the heading of all others."""
    path = tmp_path / "rows.csv"
    path.write_text(header)
    with pytest.raises(SourceError, match="the first line of a CSV file"):
        read(path)


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)
lines = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b'"', b'""', b'"a', b'",', b"1,2", b'"x\n', b'"""', b"\r", b"x" * 60]),
)


@settings(max_examples=200)
@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=12))
def test_what_a_csv_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[str]]
) -> None:
    """Any text survives, quotes and line ends and all."""
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    out = io.StringIO()
    csv.writer(out).writerows([["a", "b"], *table])
    path.write_text(out.getvalue(), newline="")
    assert shown(read(path)) == [{"a": row[0], "b": row[1]} for row in table]


@settings(max_examples=300)
@given(st.lists(lines, max_size=15), st.sampled_from(["csv", "jsonl"]), st.integers(1, 4))
@example([b'"', b"1,2", b'"x', b"3,4"], "csv", 1)
def test_reading_goes_on_at_every_end(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], kind: str, rows: int
) -> None:
    """Rubbish is never raised, and a resumed import sees the rows that an undisturbed one does."""
    path = tmp_path_factory.mktemp("rubbish") / f"rows.{kind}"
    header = b"a,b\n" if kind == "csv" else b""
    path.write_bytes(header + b"\n".join(content))

    async def check() -> None:
        source = FileSource(path, 50)
        await source.open([])
        chunks = [chunk async for chunk in source.chunks(None)]
        all_rows = [row for chunk in chunks for row in chunk.rows]
        for number, chunk in enumerate(chunks):
            behind = [row async for later in source.chunks(chunk.end) for row in later.rows]
            rest = [row for later in chunks[number + 1 :] for row in later.rows]
            assert behind == rest
        good = [line for line in content if line == b"1,2"] if kind == "csv" else []
        assert len(all_rows) >= bool(good)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "CHUNK_ROWS", rows)
        asyncio.run(check())


HOSTILE = mapping(
    """
    source = "hostile"
    account = "{user}"
    time = "at"
    [[documents]]
    key = "{key}"
    value = { column = "data", as = "json" }
    """
)


def test_hostile_rows_are_told_and_the_others_are_imported(world: World) -> None:
    """Everything at once, with good rows between: each bad one has its reason."""
    deep = "[" * 40 + "]" * 40
    rows = [
        ("good", {"user": "u1", "key": "plain", "data": {"n": 1}}),
        ("account-missing", {"key": "plain", "data": 1}),
        ("account-missing", {"user": None, "key": "plain", "data": 1}),
        ("account-missing", {"user": "", "key": "plain", "data": 1}),
        ("invalid-account", {"user": "a\u0000b", "key": "plain", "data": 1}),
        ("invalid-account", {"user": "x" * 129, "key": "plain", "data": 1}),
        ("unreadable", {"user": True, "key": "plain", "data": 1}),
        ("unreadable", {"user": {"id": 1}, "key": "plain", "data": 1}),
        ("good", {"user": 2**70, "key": "plain", "data": 1}),
        ("invalid-key", {"user": "u1", "key": "no spaces", "data": 1}),
        ("column-empty", {"user": "u1", "key": "", "data": 1}),
        ("column-empty", {"user": "u1", "data": 1}),
        ("unreadable", {"user": "u1", "key": "plain", "data": 2**53}),
        ("unreadable", {"user": "u1", "key": "plain", "data": "{not json"}),
        ("unreadable", {"user": "u1", "key": "plain", "data": msgspec.Raw(deep.encode())}),
        ("unreadable", {"user": "u1", "key": "plain", "data": msgspec.Raw(b'{"a":1,"a":2}')}),
        ("unreadable", {"user": "u1", "key": "plain", "data": "\u0000"}),
        ("document-too-large", {"user": "u1", "key": "plain", "data": {"x": "y" * 300_000}}),
        ("wrong-type", {"user": "u1", "key": "game_stats", "data": [1]}),
        ("wrong-type", {"user": "u1", "key": "game_stats", "data": {"score": "many"}}),
        ("server-owned", {"user": "u1", "key": "totals", "data": {"xp": 10**9}}),
        ("invalid-time", {"user": "u1", "key": "plain", "data": 1, "at": "yesterday"}),
        ("invalid-time", {"user": "u1", "key": "plain", "data": 1, "at": "infinity"}),
        ("good", {"user": "u1", "key": "settings", "data": '{"theme": "dark"}', "at": 1e9}),
    ]
    random.Random(7).shuffle(rows)
    lines = [msgspec.json.encode(row) for _, row in rows]
    path = world.file("hostile.jsonl", b"\n".join([*lines, b'{"user": "u1", "user": "u2"}']))
    dry = world.bring_in(HOSTILE, path, dry_run=True)
    done = world.bring_in(HOSTILE, path)
    assert dry.rejected == done.rejected
    bad = sorted(code for code, _ in rows if code != "good")
    assert sorted(done.codes) == sorted([*bad, "malformed-row"])
    assert world.documents("u1") == {"plain": {"n": 1}, "settings": {"theme": "dark"}}
    assert world.documents(str(2**70)) == {"plain": 1}


def test_one_bad_member_takes_no_other_with_it(world: World) -> None:
    """One row of the first version holds all of a user's data; its report holds it once."""
    data = {"": 1, "no spaces": 2, "totals": 3, "game_stats": [4], "plain": 5, "big": 2**53 - 1}
    path = world.file("rows.jsonl", msgspec.json.encode({"user_id": "u1", "data": data}))
    done = world.bring_in("user_sync_data", path)
    assert world.documents("u1") == {"plain": 5, "big": 2**53 - 1}
    assert sorted(done.codes) == ["column-empty", "invalid-key", "server-owned", "wrong-type"]
    assert len(done.rejected) == 1


def test_columns_of_rows_that_have_each_their_own_are_not_all_remembered(world: World) -> None:
    """Whatever a file holds, what is kept of it is bounded."""
    rows = (msgspec.json.encode({"user_id": "u1", f"c{n}": 1}) for n in range(1_500))
    done = world.bring_in("user_sync_data", world.file("rows.jsonl", b"\n".join(rows)))
    assert "Left out: (others), in 1,000 rows" in done.said


def test_csv_rows_become_documents(world: World) -> None:
    """CSV has texts only: the mapping says how they are read."""
    path = world.file(
        "stats.csv",
        "userId,xp,hearts,level,streak,accuracy,maxStreak,completedQuestions,correctAnswers,"
        "wrongAnswers,totalQuestions,timePerQuestion,totalTimeSpent,lastGameResults,diamonds,"
        "updatedAt\r\n"
        'u1,150,5,3,7,85.5,12,50,43,7,50,"[2.5, 3.1]",150,"{""won"": true}",25,1705314600\r\n'
        "u2,many,5,3,7,85,12,50,43,7,50,,150,,25,\r\n",
    )
    done = world.bring_in("user_stats", path)
    assert done.codes == ["unreadable"]
    stats = world.documents("u1")["user_stats"]
    assert (stats["xp"], stats["accuracy"], stats["time_per_question"]) == (150, 85.5, [2.5, 3.1])
    assert stats["last_game_results"] == {"won": True}


def test_a_missing_column_is_told_before_anything_is_read(world: World) -> None:
    """Half an import under a heading that was misspelt would be worse than none."""
    path = world.file("users.csv", "id,total_pp\n1,2\n")
    with pytest.raises(SourceError, match="has no column total_xp"):
        world.bring_in("users_total_xp", path)
