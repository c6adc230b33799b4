"""The stats of the apps that speak Socket.IO, and the document `user_stats`: pure.

Those apps write names as JavaScript does, and changes as deltas with `__set` beside them.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Raw

from app.documents.model import Snapshot
from app.documents.types import PatchDocument
from app.errors import Code, SynclineError

KEY = "user_stats"

STORED_NAMES = {
    "maxStreak": "max_streak",
    "completedQuestions": "completed_questions",
    "correctAnswers": "correct_answers",
    "wrongAnswers": "wrong_answers",
    "totalQuestions": "total_questions",
    "timePerQuestion": "time_per_question",
    "totalTimeSpent": "total_time_spent",
    "lastGameResults": "last_game_results",
}
"""The names under which merge rules know what those apps call otherwise; the rest is the same."""
SHOWN_NAMES: dict[str, str] = {stored: shown for shown, stored in STORED_NAMES.items()}
UPDATED_AT = "updatedAt"
"""When the document last changed: the service's own, and dropped where a client sends it."""

_encode = msgspec.json.Encoder().encode


def patch_of(payload: Any, account: str, device: str) -> PatchDocument:
    """The PATCH that a `user:clientUpdate` asks for.

    `{"xp": 10, "__set": {"level": 2}, "id": "0199…"}`: numbers are added, what stands in `__set`
    is set. Without an id it gets one, and counts again if the client repeats it. Raises
    SynclineError INVALID_REQUEST for anything else, another account's `userId` among it.
    """
    if not isinstance(payload, dict):
        raise _invalid('Send an object of changes, such as `{"xp": 10}`.')
    refuse_other_account(payload, account)
    changes = {name: value for name, value in payload.items() if name not in ("userId", "id")}
    absolute = changes.pop("__set", {})
    if not isinstance(absolute, dict):
        raise _invalid("`__set` holds an object.", path="$.__set")
    return PatchDocument(
        id=_id(payload.get("id")), device=device, delta=_stored(changes), set=_stored(absolute)
    )


def refuse_other_account(payload: Any, account: str) -> None:
    """Raises INVALID_REQUEST where a payload names somebody else; the token says who it is."""
    named = payload.get("userId") if isinstance(payload, dict) else payload
    if named is not None and named != account:
        raise _invalid("`userId` is not the account of the token: leave it out.", path="$.userId")


def shown(document: Snapshot | None) -> dict[str, Any]:
    """The whole stats as those apps read them; empty where there are none, or no more."""
    if document is None or document.stored.value is None:
        return {}
    value = msgspec.json.decode(document.stored.value)
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    stats = {SHOWN_NAMES.get(name, name): field for name, field in fields.items()}
    updated_at = datetime.fromtimestamp(document.updated_at_ms / 1000, UTC)
    stats[UPDATED_AT] = updated_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return stats


def _stored(fields: dict[str, Any]) -> dict[str, Raw]:
    stored: dict[str, Raw] = {}
    for name, value in fields.items():
        if name == UPDATED_AT:
            continue
        under = STORED_NAMES.get(name, name)
        if under in stored:
            raise _invalid(f"`{under}` stands there under both its names.")
        stored[under] = Raw(_encode(value))
    return stored


def _id(text: Any) -> UUID:
    if text is None:
        return uuid4()
    try:
        return msgspec.convert(text, UUID)
    except msgspec.ValidationError as error:
        raise _invalid("`id` is a UUID, kept through retries.", path="$.id") from error


def _invalid(detail: str, **extensions: str) -> SynclineError:
    return SynclineError(Code.INVALID_REQUEST, detail, **extensions)
