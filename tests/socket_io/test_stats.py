"""From what those apps send to a PATCH, and back: every payload, not only the ones we think of."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.documents.model import Snapshot
from app.documents.types import PatchDocument
from app.errors import Code, SynclineError
from app.socket_io.stats import STORED_NAMES, patch_of, refuse_other_account, shown
from merge_rules.state import Stored

scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5)
names = st.sampled_from(
    ["xp", "id", "userId", "__set", "updatedAt", *STORED_NAMES, *STORED_NAMES.values()]
)
payloads = st.recursive(
    scalars,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(names, inside, max_size=5),
)


def attempt(payload: Any) -> PatchDocument | SynclineError:
    try:
        return patch_of(payload, "mine", "d1")
    except SynclineError as refused:
        return refused


@given(payload=payloads | st.dictionaries(names, payloads, max_size=6))
def test_a_payload_becomes_a_patch_or_is_refused(payload: Any) -> None:
    """Never a failure of ours, and nothing is dropped or invented on the way."""
    patch = attempt(payload)
    if isinstance(patch, SynclineError):
        assert patch.code is Code.INVALID_REQUEST
        return
    assert payload.get("userId") in (None, "mine")
    assert isinstance(patch.id, UUID)
    assert patch.device == "d1"
    own = {"id", "userId", "__set", "updatedAt"}
    for sent, got in (
        ({k: v for k, v in payload.items() if k not in own}, patch.delta),
        ({k: v for k, v in payload.get("__set", {}).items() if k != "updatedAt"}, patch.set),
    ):
        stored = {STORED_NAMES.get(name, name): value for name, value in sent.items()}
        assert {name: msgspec.json.decode(value) for name, value in got.items()} == stored
        assert len(got) == len(sent)


@given(payload=payloads)
def test_no_payload_speaks_for_another_account(payload: Any) -> None:
    """Whatever it names, it is the account of the token or it is refused."""
    named = payload.get("userId") if isinstance(payload, dict) else payload
    if named is None or named == "mine":
        refuse_other_account(payload, "mine")
    else:
        with pytest.raises(SynclineError):
            refuse_other_account(payload, "mine")


@given(fields=st.dictionaries(names, st.integers(), max_size=6))
def test_what_is_shown_is_what_was_set(fields: dict[str, int]) -> None:
    """A name that came back as another one would look like a lost update."""
    sent = {k: v for k, v in fields.items() if k not in ("id", "userId", "__set", "updatedAt")}
    patch = attempt({"__set": sent})
    if isinstance(patch, SynclineError):
        assert len({STORED_NAMES.get(name, name) for name in sent}) < len(sent)
        return
    value = b"{%s}" % b",".join(
        msgspec.json.encode(name) + b":" + bytes(one) for name, one in patch.set.items()
    )
    document = Snapshot("user_stats", 1, 0, 0, 0, Stored(value, b""), "", None, 0)
    as_apps_write = {stored: name for name, stored in STORED_NAMES.items()}
    expected: dict[str, Any] = {as_apps_write.get(name, name): one for name, one in sent.items()}
    assert shown(document) == {**expected, "updatedAt": "1970-01-01T00:00:00.000Z"}
