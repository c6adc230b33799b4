"""From the text of a mutation to what the pipeline decides; what is wrong rejects it alone."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw, UnsetType

from app.documents.model import Mutation
from app.documents.mutations import Intake, delete_mutation
from app.documents.types import DeleteQuery, PatchDocument, PutDocument, require_key
from app.errors import Code, SynclineError
from app.requests import decode_body
from app.sync.types import MutationBody, MutationIdentity, SyncRequest


@dataclass(frozen=True, slots=True)
class Unread:
    """A mutation that is rejected before anything is looked up."""

    id: UUID
    key: str
    problem: SynclineError


def read_mutation(
    text: bytes, index: int, request: SyncRequest, intake: Intake, now_ms: int
) -> Mutation | Unread:
    """Raises SynclineError only where the id cannot be read: nobody could be told of the rest."""
    try:
        intake.refuse_long(text)
        return _mutation(decode_body(text, MutationBody), request, intake, now_ms)
    except SynclineError as problem:
        try:
            identity = msgspec.json.decode(text, type=MutationIdentity)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            where = f"mutations[{index}]"
            raise SynclineError(
                Code.INVALID_REQUEST,
                f"`{where}` has no `id` that can be read: send a UUID with each mutation.",
                path=f"$.{where}",
            ) from error
        return Unread(identity.id, _text(identity.key), problem.as_value())


def _text(key: Raw) -> str:
    try:
        return msgspec.json.decode(key, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _mutation(body: MutationBody, request: SyncRequest, intake: Intake, now_ms: int) -> Mutation:
    require_key(body.key)
    _refuse_misplaced(body)
    if body.op == "put":
        if isinstance(body.value, UnsetType):
            raise SynclineError(Code.INVALID_REQUEST, "A put needs a `value`.")
        put = PutDocument(
            value=body.value,
            base=body.base,
            base_value=body.base_value,
            device=request.device,
            id=body.id,
            edited_at=body.edited_at,
            sent_at=request.sent_at,
        )
        return intake.put(body.key, put, now_ms)
    if body.op == "patch":
        patch = PatchDocument(
            id=body.id,
            base=body.base,
            device=request.device,
            edited_at=body.edited_at,
            sent_at=request.sent_at,
            delta={} if isinstance(body.delta, UnsetType) else body.delta,
            set={} if isinstance(body.set, UnsetType) else body.set,
            operations=[] if isinstance(body.operations, UnsetType) else body.operations,
        )
        return intake.patch(body.key, patch, now_ms)
    query = DeleteQuery(base=body.base, device=request.device, id=body.id)
    return delete_mutation(body.key, query, now_ms)


def _refuse_misplaced(body: MutationBody) -> None:
    """A field that its `op` would not look at is a mistake, not something to drop."""
    put_only: dict[str, Any] = {"value": body.value, "base_value": body.base_value}
    patch_only: dict[str, Any] = {
        "delta": body.delta,
        "set": body.set,
        "operations": body.operations,
    }
    misplaced: dict[str, dict[str, Any]] = {
        "put": patch_only,
        "patch": put_only,
        "delete": {**put_only, **patch_only},
    }
    for name, value in misplaced[body.op].items():
        if value is not UNSET:
            raise SynclineError(Code.INVALID_REQUEST, f"A {body.op} takes no `{name}`.")
