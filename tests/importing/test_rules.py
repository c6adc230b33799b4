"""The decisions of an import, as pure as they are: templates, times, joins, openings."""

import itertools
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.documents.decide import decide
from app.documents.model import Decision, Limits, Mutation, Own, Snapshot
from app.documents.mutations import Intake
from app.ledger.event_type import EventType
from app.ledger.intake import EventIntake, Sender
from app.ledger.model import Event
from app.ledger.openings import IMPORTED_FACTS, OPENING
from app.ledger.profile import PROFILE_RULE
from app.ledger.shipped import SESSIONS, shipped_event_types
from app.ledger.work import LedgerWork
from app.operations.importing.mapping import Expression, read_mapping
from app.operations.importing.rows import Reason, Rejected, Row
from app.operations.importing.template import Ambiguous, Template
from app.operations.importing.translate import Translator
from merge_rules.canonical import encode
from merge_rules.rule import Rule
from merge_rules.stamp import edit_stamp
from merge_rules.state import decode
from merge_rules.testing import values_of
from tests.merge_rules.strategies import RULES, json_values

NOW_MS = 1_764_000_000_000
INTAKE = Intake(10_000, 500)
EVENTS = EventIntake(shipped_event_types(), 16 * 1024, 366)


# --- templates --------------------------------------------------------------------------------

parts = st.text("ab:.", min_size=1, max_size=4)


@settings(max_examples=500)
@given(parts, parts, parts, parts, st.sampled_from([":", "::", "a", ".:"]))
def test_two_rows_never_share_a_key_by_accident(a: str, b: str, c: str, d: str, sep: str) -> None:
    """`a:b` + `c` must not become the document of `a` + `b:c`: two lessons would be one."""
    template = Template.parse(f"lesson:{{x}}{sep}{{y}}")
    try:
        filled = [template.fill({"x": x, "y": y}) for x, y in ((a, b), (c, d))]
    except Ambiguous:
        return
    assert (filled[0] == filled[1]) == ((a, b) == (c, d))


# --- times ------------------------------------------------------------------------------------


def read(value: Any, reading: Any) -> Any:
    row = Row("row 1", {"t": msgspec.Raw(encode(value))})
    in_csv = Row("row 1", {"t": value if isinstance(value, str) else encode(value).decode()})
    both = []
    for one in (row, in_csv):
        try:
            both.append(one.read(Expression(column="t", reading=reading)))
        except Rejected as rejected:
            both.append(rejected.reason)
    assert both[0] == both[1]
    return both[0]


@settings(max_examples=300)
@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_a_time_with_its_zone_is_one_moment(moment: datetime, minutes: int, between: str) -> None:
    """PostgreSQL and JavaScript write it differently, and mean the same."""
    zone = timezone(timedelta(minutes=minutes))
    expected = (moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )
    text = moment.replace(tzinfo=zone).isoformat(between)
    assert read(text, "timestamp") == expected
    assert read(text, "day") == moment.date().isoformat()


@pytest.mark.parametrize(
    ("value", "reading", "expected"),
    [
        (1_705_314_600, "timestamp", 1_705_314_600_000),
        (1_705_314_600_123, "timestamp", 1_705_314_600_123),
        ("1705314600", "timestamp", 1_705_314_600_000),
        (1_705_314_600.5, "timestamp", 1_705_314_600_500),
        (99_999_999_999, "timestamp", 99_999_999_999_000),
        (100_000_000_000, "timestamp", 100_000_000_000),
        (1_705_314_600_123, "seconds", 1_705_314_600_123_000),
        (1_705_314_600, "milliseconds", 1_705_314_600),
        ("2024-01-15", "timestamp", 1_705_276_800_000),
        ("2024-01-15 10:30:00+00", "timestamp", 1_705_314_600_000),
        ("2024-01-15T10:30:00.000Z", "timestamp", 1_705_314_600_000),
        ("2024-01-15T23:30:00-05:00", "day", "2024-01-15"),
        (1_705_314_600, "day", "2024-01-15"),
        ("2024-02-30", "day", Reason.INVALID_TIME),
        ("infinity", "timestamp", Reason.INVALID_TIME),
        ("", "seconds", None),
        (1e300, "timestamp", Reason.INVALID_TIME),
        (True, "timestamp", Reason.INVALID_TIME),
        ({"at": 1}, "timestamp", Reason.INVALID_TIME),
        (2**53 - 1, "day", Reason.INVALID_TIME),
        ("true", "boolean", True),
        (0, "boolean", False),
        ("yes", "boolean", Reason.UNREADABLE),
        ("12", "integer", 12),
        (12.0, "integer", 12),
        (12.5, "integer", Reason.UNREADABLE),
        (2**53 - 1, "integer", 2**53 - 1),
        ("9007199254740992", "integer", Reason.UNREADABLE),
        ("1e3", "number", 1000.0),
        ("NaN", "number", Reason.UNREADABLE),
        ("-0.0", "number", 0.0),
    ],
)
def test_one_reading_each(value: Any, reading: Any, expected: Any) -> None:
    """What the guide promises of each kind of column, in JSON and in CSV alike."""
    if expected is None:
        return
    found = read(value, reading)
    assert (type(found), found) == (type(expected), expected)


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(["id", "data", "at", "n"]), json_values()),
    st.sampled_from(
        ["value", "json", "text", "integer", "number", "boolean", "timestamp", "seconds", "day"]
    ),
)
@example({"id": "u", "data": "[" * 2_000, "at": None}, "json")
@example({"id": 1, "n": 10**300}, "seconds")
def test_no_row_ends_an_import(row: dict[str, Any], reading: str) -> None:
    """Whatever a row holds, it becomes something or a rejection."""
    read_so = {"column": "data", "as": reading}
    number = {"column": "n", "as": reading}
    content = {
        "source": "anything",
        "account": "{id}",
        "time": "at",
        "documents": [
            {"key": "k:{id}", "value": read_so},
            {"key": "{member}", "each": {"column": "data", "as": "json"}},
        ],
        "events": [{"type": "xp", "id": "{id}", "occurred_at": "at", "fields": {"amount": number}}],
        "openings": [{"totals": {"xp": "n"}, "streak_days": "n", "last_day": "at"}],
    }
    translator = Translator(read_mapping(encode(content), ".json", "a test"), INTAKE, EVENTS)
    columns = {name: msgspec.Raw(encode(value)) for name, value in row.items()}
    done = translator.translate(Row("row 1", columns), NOW_MS)
    assert done.mutations or done.events or done.rejections or done.account


@pytest.mark.parametrize(
    "time",
    [
        '{ constant = "2025-11-24" }',
        '{ column = "seen", default = "2025-11-24" }',
        '{ template = "{name}" }',
        '{ column = "name", as = "text" }',
        '{ column = "name", as = "number", default = 1.5 }',
    ],
)
def test_a_time_that_is_no_number_rejects_its_row(time: str) -> None:
    """A mapping may say so, and its import must not end in the middle with a trace."""
    text = f"""
source = "old"
account = "{{name}}"
[[events]]
type = "xp"
id = "{{name}}"
occurred_at = {time}
fields = {{ amount = {{ constant = 5 }} }}
"""
    of_event = read_mapping(text.encode(), ".toml", "of the event")
    of_row = msgspec.structs.replace(of_event, time=of_event.events[0].occurred_at)
    for mapping in (of_event, of_row):
        done = Translator(mapping, INTAKE, EVENTS).translate(Row("row 1", {"name": "ada"}), NOW_MS)
        assert done.events == []
        assert {one.code for one in done.rejections} <= {Reason.INVALID_TIME, Reason.UNREADABLE}
        assert len(done.rejections) == 1


# --- joins ------------------------------------------------------------------------------------


class NoPast:
    """What an import never looks at."""

    def base(self, key: str, version: int) -> Snapshot | None:
        return None

    def own(self, key: str, device: str, base: int) -> list[Own]:
        return []

    def epoch_began(self, current: Snapshot) -> Snapshot | None:
        return None

    def former_rule(self, fingerprint: str) -> Rule | None:
        return None


def decided(mutation: Mutation, rule: Rule, current: Snapshot | None) -> Decision:
    return decide(mutation, rule, current, NoPast(), Limits(256 * 1024, 10_000), NOW_MS)


def imported(value: Any, dated_ms: int, source: str = "old") -> Mutation:
    return INTAKE.imported("k", value, source, "account", dated_ms)


def written(rule: Rule, current: Snapshot | None, value: Any, device: str, at: int) -> Any:
    """A device that has pulled writes; the document after it."""
    base = 0 if current is None else current.version
    stamp = edit_stamp(at, None, NOW_MS, device)
    put = Mutation("put", "k", b"", stamp, device=device, base=base, dated=True, value=value)
    decision = decided(put, rule, current)
    return current if decision.document is None else decision.document


@pytest.mark.parametrize("name", RULES)
def test_imports_join_in_any_order_and_repeat_without_effect(name: str) -> None:
    """Two exports of one system, a second system, and what people write between: whatever comes
    first, the document ends the same, and what comes again changes nothing."""
    rule = RULES[name]
    value = values_of(rule)

    @settings(max_examples=40)
    @given(
        st.lists(
            st.tuples(value, st.integers(0, 4), st.sampled_from(["old", "other"])),
            min_size=1,
            max_size=3,
        )
    )
    def law(rows: list[tuple[Any, int, str]]) -> None:
        ends = set()
        for order in itertools.permutations(rows):
            current: Snapshot | None = None
            for one in (*order, *order[:1]):
                decision = decided(imported(*one), rule, current)
                assert decision.problem is None
                current = decision.document
            assert current is not None
            for one in order:
                again = decided(imported(*one), rule, current)
                assert (again.outcome, again.change) == ("unchanged", "none")
            ends.add(current.stored)
        assert len(ends) == 1

    law()


@pytest.mark.parametrize("name", RULES)
def test_what_people_wrote_stays_when_an_import_comes_again(name: str) -> None:
    """After the first import they edit and delete; the second one leaves that alone."""
    rule = RULES[name]
    value = values_of(rule)

    @settings(max_examples=40)
    @given(value, st.lists(value, min_size=1, max_size=3), st.integers(0, 1_000))
    def law(old: Any, edits: list[Any], dated_ms: int) -> None:
        mutation = imported(old, dated_ms)
        current = decided(mutation, rule, None).document
        for number, edit in enumerate(edits):
            current = written(rule, current, edit, "phone", 2_000 + number)
        again = decided(mutation, rule, current)
        assert (again.outcome, again.change) == ("unchanged", "none")

    law()


@pytest.mark.parametrize("name", RULES)
def test_what_was_written_before_an_import_is_not_lost(name: str) -> None:
    """The state after the first import is above both: each device's edits and the old values."""
    rule = RULES[name]
    value = values_of(rule)

    @settings(max_examples=40)
    @given(value, value)
    def law(old: Any, new: Any) -> None:
        before = written(rule, None, new, "phone", 2_000)
        if before is None:
            return  # a value that the rule refuses
        after = decided(imported(old, 1_000), rule, before).document
        assert after is not None
        held, joined = (decode(rule, one.stored) for one in (before, after))
        brought = rule.adopt(old, imported(old, 1_000).stamp)
        assert rule.join(joined, held) == joined
        assert rule.join(joined, brought) == joined

    law()


def test_a_deleted_document_stays_deleted() -> None:
    """Its epoch says that somebody took it away; an import has not seen that."""
    rule = RULES["game_stats"]
    current = decided(imported({"score": 1}, 5), rule, None).document
    gone = decided(Mutation("delete", "k", b"", (9, 0, "")), rule, current).document
    assert gone is not None
    assert gone.deleted
    again = decided(imported({"score": 2}, 7), rule, gone)
    assert (again.outcome, again.change) == ("superseded", "none")


def test_a_document_that_was_made_afresh_is_not_filled_again() -> None:
    """After a delete somebody began anew, and what was before that is gone on purpose."""
    rule = RULES["game_stats"]
    current = decided(imported({"score": 90}, 5), rule, None).document
    gone = decided(Mutation("delete", "k", b"", (9, 0, "")), rule, current).document
    afresh = written(rule, gone, {"score": 1}, "phone", 2_000)
    assert afresh.stored.value == b'{"score":1}'
    again = decided(imported({"score": 95}, 7), rule, afresh)
    assert (again.outcome, again.document) == ("superseded", afresh)


def test_a_counter_of_the_same_system_is_set_by_the_later_row() -> None:
    """A live old system counts on, up and down; its rows may arrive in any order."""
    rule = RULES["user_stats"]
    current: Snapshot | None = None
    for value, dated_ms in (({"hearts": 5}, 10), ({"hearts": 2}, 20), ({"hearts": 9}, 15)):
        current = decided(imported(value, dated_ms), rule, current).document
    assert current is not None
    assert current.stored.value == b'{"hearts":2}'
    zero = decided(imported({"hearts": 0}, 30), rule, current).document
    assert zero is not None
    assert zero.stored.value == b'{"hearts":0}'


# --- openings ---------------------------------------------------------------------------------


@dataclass
class Books:
    """An account's ledger in memory, and its profile."""

    work: LedgerWork = field(default_factory=lambda: LedgerWork(NOW_MS))
    profile: Any = field(default_factory=dict)

    def record(self, event: Event) -> None:
        decisions, steps = self.work.decide("a", [event])
        assert decisions[0].outcome in ("accepted", "duplicate"), decisions[0].problem
        for step in steps:
            delta = step(PROFILE_RULE, self.profile)
            self.profile = PROFILE_RULE.apply(self.profile, delta)

    def total(self, name: str) -> int:
        return self.work.total("a", name)


def event(kind: EventType, number: int, payload: Any) -> Event:
    sender = Sender(None, None, NOW_MS)
    return EVENTS.imported(kind, UUID(int=number), payload, None, 1_000 + number, sender)


Fact = tuple[str, int]
facts = st.lists(
    st.tuples(st.sampled_from(["xp", "points", "claim xp", "claim points"]), st.integers(1, 50))
    | st.tuples(st.sampled_from(["xp", "points"]), st.integers(-20, 20)),
    max_size=7,
)


def event_of(number: int, fact: Fact) -> Event:
    name, amount = fact
    if name == "xp":
        return event(IMPORTED_FACTS["xp"], number, {"amount": amount})
    if name == "points":
        session = {"thread": "T", "stitch": "S", "points": amount}
        return event(IMPORTED_FACTS["session"], number, session)
    total = name.removeprefix("claim ")
    says = {total: amount, "sessions": amount} if total == "points" else {total: amount}
    return event(OPENING, number, {"totals": says})


@settings(max_examples=300)
@given(facts, st.randoms(use_true_random=False), st.lists(st.integers(1, 9), max_size=2))
@example([("xp", 20), ("claim xp", 10), ("xp", -15)], random.Random(1), [])
def test_the_same_points_count_once_in_whatever_order(
    known: list[Fact], luck: random.Random, played: list[int]
) -> None:
    """An opening says at least so much; the facts behind it are part of that. What people earn
    in Syncline comes on top, before or after."""
    events = [event_of(number, fact) for number, fact in enumerate(known, start=1)]
    xp = shipped_event_types().registered()["xp"]
    events += [event(xp, 100 + n, {"amount": amount}) for n, amount in enumerate(played)]
    luck.shuffle(events)
    books = Books()
    for one in (*events, *events[:2]):
        books.record(one)
    for total, fact in (("xp", "xp"), ("points", "points")):
        summed = sum(amount for name, amount in known if name == fact)
        claims = [amount for name, amount in known if name == f"claim {total}"]
        expected = max(summed, *claims) if claims else summed
        on_top = sum(played) if total == "xp" else 0
        assert books.total(total) == expected + on_top
    sessions = sum(name == "points" for name, _ in known)
    claimed = [amount for name, amount in known if name == "claim points"]
    assert books.total(SESSIONS) == max(sessions, *claimed, 0)
    effects: dict[str, int] = {}
    for row in books.work.new_events:
        for name, amount in msgspec.json.decode(row[5]).items():
            effects[name] = effects.get(name, 0) + amount
    counted = {name: n for name, n in books.work.totals["a"].items() if name != "events" and n}
    assert {name: n for name, n in effects.items() if n} == counted
    shown = PROFILE_RULE.value(books.profile)
    assert shown.get("total_points", 0) == books.total("points")
    assert shown.get("total_sessions", 0) == books.total(SESSIONS)


def test_clients_cannot_open_totals() -> None:
    """An opening is worth any number of points."""
    assert EVENTS.types.get(OPENING.name) is None
    assert all(one.internal for one in (OPENING, *IMPORTED_FACTS.values()))
