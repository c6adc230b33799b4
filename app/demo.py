"""Two devices of one player edit offline, conflict on three documents, and meet again.

`Device` is all that an offline client needs: its copy, an outbox, a cursor. The service does the
rest, so the result and the reason for it are read from the service, never computed here.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.clock import system_clock
from app.command import command
from merge_rules.canonical import encode

MINUTE_MS = 60_000
TIMEOUT_S = 15.0

# fmt: off
START: dict[str, Any] = {
    "game_stats": {"score": 1200, "longest_streak": 7, "games_played": 10, "correct_answers": 80,
                   "best_scores": {"quiz": 300, "maths": 210}},
    "settings": {"theme": "dark", "volume": 50, "text_size": "normal",
                 "ai_themes": {"retro": "amber", "neon": "pink"}},
    "lesson_progress": {"unlocked_count": 4, "best_stars": {"l1": 3, "l2": 1}, "completed": ["l1"]},
}
PROMISED: dict[str, Any] = {
    "game_stats": {"score": 1350, "longest_streak": 9, "games_played": 15, "correct_answers": 119,
                   "best_scores": {"quiz": 340, "maths": 260, "speed": 90}},
    "settings": {"theme": "dark", "volume": 80, "text_size": "large",
                 "ai_themes": {"neon": "pink", "ocean": "blue", "forest": "green"}},
    "lesson_progress": {"unlocked_count": 6, "best_stars": {"l1": 3, "l2": 3, "l3": 2},
                        "completed": ["l1", "l2", "l3"]},
}
# fmt: on
"""What the shipped rules make of the edits below, worked out by hand."""


class Unexpected(Exception):
    """The service did something that it must not do."""


# --- the devices ------------------------------------------------------------------------------


@dataclass
class Device:
    """An offline client: it edits its own copy, and talks to the service when it can."""

    name: str
    client: httpx.Client
    id: str = field(default_factory=lambda: uuid4().hex)
    values: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    outbox: list[dict[str, Any]] = field(default_factory=list)
    written: list[tuple[str, Any]] = field(default_factory=list)
    """All that it ever wrote, for the table; a real client need not keep it."""
    cursor: str | None = None
    previous: str | None = None

    def edit(self, key: str, minutes_ago: int, **changes: Any) -> None:
        """Changes the copy and queues the write; needs no network."""
        self.values[key] = self.values.get(key, {}) | deepcopy(changes)
        self.written.append((key, self.values[key]))
        self.outbox.append(
            {
                "id": str(uuid4()),
                "op": "put",
                "key": key,
                "base": self.versions.get(key, 0),
                "edited_at": system_clock() - minutes_ago * MINUTE_MS,
                "value": self.values[key],
            }
        )

    def send(self) -> dict[str, Any]:
        """One round trip. It changes nothing here, so that an answer may get lost."""
        request = {
            "device": self.id,
            "cursor": self.cursor,
            "previous": self.previous,
            "sent_at": system_clock(),
            "mutations": self.outbox,
        }
        answer: dict[str, Any] = _json(self.client.post("/v1/sync", json=request))
        return answer

    def adopt(self, answer: dict[str, Any]) -> None:
        """First the results, then the changes, then the cursor: after that the copy is true."""
        for sent, result in zip(self.outbox, answer["results"], strict=True):
            if result["outcome"] == "rejected":
                raise Unexpected(f"{sent['key']} was rejected: {result['problem']}")
            self._take(result["key"], result["version"], result.get("value", sent["value"]))
            self.previous = sent["id"]
        self.outbox = []
        for change in answer["changes"]:
            self._take(change["key"], change["version"], change["value"])
        self.cursor = answer["cursor"]

    def _take(self, key: str, version: int, value: Any) -> None:
        self.versions[key], self.values[key] = version, value

    def fingerprint(self) -> str:
        """A short hash of the bytes of the copy."""
        return sha256(encode(self.values)).hexdigest()[:12]


def _json(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise Unexpected(f"{response.request.url.path} answered {response.status_code}")
    return response.json()


# --- the story --------------------------------------------------------------------------------


@dataclass
class Row:
    """One path of a document: what it was, what each device made of it, what came out, and why."""

    key: str
    path: str
    before: Any
    edits: dict[str, list[Any]]
    result: Any
    rule: str
    winner: str


ABSENT = object()


def _begin(phone: Device, tablet: Device) -> None:
    for key, value in START.items():
        phone.edit(key, 120, **value)
    phone.adopt(phone.send())
    phone.written.clear()
    tablet.adopt(tablet.send())


def _edit_offline(phone: Device, tablet: Device) -> None:
    """The tablet's settings are older than the phone's last ones, but arrive after them."""
    # fmt: off
    phone.edit("game_stats", 40, score=1350, games_played=13, correct_answers=104,
               best_scores={"quiz": 340, "maths": 210})
    phone.edit("settings", 38, theme="light", text_size="small",
               ai_themes={"retro": "orange", "neon": "pink", "ocean": "blue"})
    phone.edit("settings", 10, theme="dark", volume=80)
    phone.edit("lesson_progress", 12, unlocked_count=6, best_stars={"l1": 3, "l2": 2, "l3": 2},
               completed=["l1", "l2"])
    tablet.edit("game_stats", 30, score=1280, longest_streak=9, games_played=12,
                correct_answers=95, best_scores={"quiz": 300, "maths": 260, "speed": 90})
    tablet.edit("settings", 20, volume=30, text_size="large",
                ai_themes={"neon": "pink", "forest": "green"})
    tablet.edit("lesson_progress", 15, unlocked_count=5, best_stars={"l1": 3, "l2": 3},
                completed=["l1", "l3"])
    # fmt: on


def _story(phone: Device, tablet: Device) -> Iterator[str]:
    """Plays it; one sentence for each thing that happened."""
    _begin(phone, tablet)
    yield "Both hold the same three documents and go offline."
    _edit_offline(phone, tablet)
    yield f"Offline, the phone queues {len(phone.outbox)} writes, the tablet {len(tablet.outbox)}."
    outcomes = _outcomes(phone.send(), {"applied", "merged"})
    yield f"The phone is back: {outcomes}. The answer gets lost on its way."
    answer = phone.send()
    outcomes = _outcomes(answer, {"duplicate"})
    phone.adopt(answer)
    yield f"So it sends the same again: {outcomes}. Nothing counts twice."
    answer = tablet.send()
    outcomes = _outcomes(answer, {"merged"})
    tablet.adopt(answer)
    yield f"The tablet is back: {outcomes}. It holds the result."
    answer = phone.send()
    phone.adopt(answer)
    yield f"The phone pulls: {len(answer['changes'])} changes. It holds the result too."


def _outcomes(answer: dict[str, Any], promised: set[str]) -> str:
    outcomes = [result["outcome"] for result in answer["results"]]
    if not outcomes or not set(outcomes) <= promised:
        raise Unexpected(f"the outcomes are {outcomes}, where {sorted(promised)} were promised")
    return ", ".join(f"{outcomes.count(one)} {one}" for one in dict.fromkeys(outcomes))


def _rows(phone: Device, tablet: Device) -> Iterator[Row]:
    """Every path that somebody changed, with the reason from the newest receipt that names it."""
    names = {phone.id: (phone.name, tablet.name), tablet.id: (tablet.name, phone.name)}
    for key, start in START.items():
        document = _json(phone.client.get(f"/v1/documents/{key}"))
        reasons: dict[str, tuple[str, str]] = {}
        for version in range(2, document["version"] + 1):
            address = f"/v1/documents/{key}/revisions/{version}"
            revision = _json(phone.client.get(address, params={"receipt": "true"}))
            yours, current = names[revision["device"]]
            winners = {"yours": yours, "current": current, "both": "both"}
            for entry in revision["receipt"]:
                reasons[entry["path"]] = (entry["rule"], winners[entry["decided"]])
        for path in sorted(reasons, key=lambda path: _place(start, path)):
            before = _at(start, path)
            edits = {one.name: _edits(one, key, path, before) for one in (phone, tablet)}
            yield Row(key, path, before, edits, _at(document["value"], path), *reasons[path])


def _place(start: dict[str, Any], path: str) -> tuple[int, str]:
    """Rows come in the order in which the document names its fields."""
    return list(start).index(path.split("/")[1]), path


def _edits(device: Device, key: str, path: str, before: Any) -> list[Any]:
    edits = [before]
    for written_key, value in device.written:
        if written_key == key and _at(value, path) != edits[-1]:
            edits.append(_at(value, path))
    return edits[1:]


def _at(value: Any, path: str) -> Any:
    for token in path.split("/")[1:]:
        value = value.get(token, ABSENT) if isinstance(value, dict) else ABSENT
    return value


def _faults(phone: Device, tablet: Device) -> Iterator[str]:
    """What is not as promised; nothing, if all is well."""
    if encode(phone.values) != encode(tablet.values) or phone.versions != tablet.versions:
        yield "the phone and the tablet hold different bytes"
    for device in (phone, tablet):
        for key, promised in PROMISED.items():
            if encode(device.values.get(key)) != encode(promised):
                yield f"{key} on the {device.name} is {device.values.get(key)}, not {promised}"


# --- the show ---------------------------------------------------------------------------------

COLOURS = {"phone": "cyan", "tablet": "magenta", "both": "green"}
SHORT = {"last_write_wins": "last write"}


def play(url: str, token: str, console: Console) -> bool:
    """Plays the story on a fresh account; whether both devices ended with what is promised."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S) as client:
        phone, tablet = Device("phone", client), Device("tablet", client)
        try:
            console.print("\nMaja plays on her phone and on her tablet.\n", style="bold")
            for number, sentence in enumerate(_story(phone, tablet), start=1):
                console.print(f"  {number}  {sentence}", highlight=False)
            console.print("", _table(list(_rows(phone, tablet))), "", sep="\n")
            faults = list(_faults(phone, tablet))
        except (Unexpected, httpx.HTTPError, LookupError, TypeError, ValueError) as error:
            faults = [str(error) or repr(error)]
    for fault in faults:
        console.print(Text(f"This went wrong: {fault}.", style="bold red"))
    if not faults:
        _print_fingerprints(phone, tablet, console)
    return not faults


def next_steps(url: str, console: Console) -> None:
    """What to try now, with a service at `url`."""
    steps = [
        f"  {command()} serve         the API docs are at {url}/docs",
        f"  {command()} rules list    which rule merges which document",
        f"  curl -X PUT {url}/v1/documents/notes \\",
        f"""    -H "Authorization: Bearer $({command()} token me)" -d '{{"value": {{"hi": 1}}}}'""",
    ]
    console.print("Next:", style="bold")
    console.print(Text("\n".join(steps)), soft_wrap=True)


def _table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("path", "before", "phone", "tablet", "result", "rule", "winner"):
        dim = heading in ("before", "rule")
        table.add_column(heading, style="dim" if dim else "", no_wrap=True)
    key = ""
    for row in rows:
        if row.key != key:
            if key:
                table.add_row()
            key = row.key
            table.add_row(Text(key, style="bold"))
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[Text]:
    colour = COLOURS[row.winner]
    sides = [
        Text(_edited(row, name), style=COLOURS[name] if row.winner in (name, "both") else "dim")
        for name in ("phone", "tablet")
    ]
    return [
        Text(" " + row.path.removeprefix("/")),
        Text("" if row.before is ABSENT else _shown(row.before)),
        *sides,
        Text(_shown(row.result), style=f"bold {colour}"),
        Text("removal" if row.result is ABSENT else SHORT.get(row.rule, row.rule)),
        Text(row.winner, style=colour),
    ]


def _edited(row: Row, name: str) -> str:
    """What a device wrote, one after the other; a counter's step as well."""
    edits = row.edits[name]
    if row.rule == "counter" and edits:
        return f"{edits[-1]} ({edits[-1] - row.before:+})"
    return ", ".join(map(_shown, edits)) or "-"


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "removed"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_fingerprints(phone: Device, tablet: Device, console: Console) -> None:
    line = Text("Both hold the same bytes: ")
    for device in (phone, tablet):
        line.append(f"{device.name} {device.fingerprint()}  ", style=COLOURS[device.name])
    console.print(line)
    console.print()
