"""From what a request holds to the mutation that the pipeline decides."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal
from uuid import UUID

from msgspec import Raw, UnsetType

from app.documents.model import Horizon, Mutation, Projection
from app.documents.refusals import refused
from app.documents.types import (
    DeleteQuery,
    OperationBody,
    PatchDocument,
    PutDocument,
    RestoreBody,
)
from app.errors import Code, SynclineError
from merge_rules.canonical import check, encode, parse
from merge_rules.counter import IMPORTED
from merge_rules.refusal import OperationRefused, Path, Refusal, parse_pointer
from merge_rules.rule import ABSENT, Operation, OperationName
from merge_rules.stamp import Stamp, edit_stamp

WITHOUT_OPERAND: set[OperationName] = {"unset", "reset"}
LONGEST_ESCAPE = 6
"""Bytes of JSON text that can stand for one of the document: `\\u0061` is an `a`."""
WHITE_SPACE = 16 * 1024
"""Bytes more that a text may have, for the sake of indentation."""


@dataclass(frozen=True, slots=True)
class Intake:
    """The limits that every value from outside meets first."""

    max_keys: int
    max_operations: int
    max_bytes: int = 256 * 1024
    """Of a document, in canonical form."""

    def refuse_long(self, body: bytes) -> None:
        """Raises DOCUMENT_TOO_LARGE for a write that is longer than any that fits.

        It may hold two documents, `value` and `base_value`. To decode and compare megabytes
        takes seconds, in which nobody else would be answered.
        """
        if len(body) > 2 * self._longest:
            raise self._too_large()

    @property
    def _longest(self) -> int:
        return LONGEST_ESCAPE * self.max_bytes + WHITE_SPACE

    def _too_large(self) -> SynclineError:
        limit = self.max_bytes
        detail = f"A document may have {limit} bytes: split it over several keys."
        return SynclineError(Code.DOCUMENT_TOO_LARGE, detail, limit=limit)

    def put(self, key: str, body: PutDocument, now_ms: int) -> Mutation:
        """A whole document; raises SynclineError where its value can be in no document."""
        value, sent = self._value(body.value)
        base_value: Any = ABSENT
        if not isinstance(body.base_value, UnsetType):
            base_value, _ = self._value(body.base_value)
        return Mutation(
            op="put",
            key=key,
            digest=_digest("put", key, sent),
            stamp=_stamp(body, now_ms),
            id=body.id,
            device=body.device,
            base=body.base,
            dated=body.edited_at is not None,
            value=value,
            sent=sent,
            base_value=base_value,
        )

    def patch(self, key: str, body: PatchDocument, now_ms: int) -> Mutation:
        """Operations on the current document; they need an id, since repeating them adds up."""
        if body.id is None:
            raise SynclineError(
                Code.ID_REQUIRED,
                "Send `id`, a random UUID kept through retries, so that the operations count once.",
            )
        if len(body.delta) + len(body.set) + len(body.operations) > self.max_operations:
            raise SynclineError(
                Code.INVALID_REQUEST, f"A PATCH may hold {self.max_operations} operations."
            )
        try:
            operations = list(self._operations(body))
        except Refusal as refusal:
            raise refused(refusal) from refusal
        content = encode([[one.op, one.path, _operand(one)] for one in operations])
        return Mutation(
            op="patch",
            key=key,
            digest=_digest("patch", key, content),
            stamp=_stamp(body, now_ms),
            id=body.id,
            device=body.device,
            base=body.base,
            operations=operations,
        )

    def _operations(self, body: PatchDocument) -> Iterator[Operation]:
        """The short forms and the operations, in the order in which they apply."""
        short: list[tuple[Literal["increment", "set"], dict[str, Raw]]] = [
            ("increment", body.delta),
            ("set", body.set),
        ]
        for op, fields in short:
            for name, raw in fields.items():
                check(name)
                yield Operation(op, (name,), self._value(raw, (name,))[0])
        for operation in body.operations:
            yield self._operation(operation)

    def _operation(self, body: OperationBody) -> Operation:
        path = parse_pointer(body.path)
        check(body.path)  # its tokens become object keys
        if isinstance(body.value, UnsetType):
            if body.op not in WITHOUT_OPERAND:
                raise OperationRefused(path, f"`{body.op}` needs a `value`")
            return Operation(body.op, path)
        if body.op in WITHOUT_OPERAND:
            raise OperationRefused(path, f"`{body.op}` takes no `value`")
        return Operation(body.op, path, self._value(body.value, path)[0])

    def imported(self, key: str, value: Any, source: str, account: str, dated_ms: int) -> Mutation:
        """What an earlier system knew of a document, as of a time; 0: it did not say when.

        Counts are the import's own in each account, so that those of two accounts which become
        one add up. Raises SynclineError where the value can be in no document.
        """
        value, canonical = self._value(Raw(encode(value)))
        owner = blake2b(account.encode(), digest_size=4).hexdigest()
        content = f"{source}\0{dated_ms}\0".encode() + canonical
        digest = _digest("import", key, content)
        return Mutation(
            op="import",
            key=key,
            digest=digest,
            stamp=(dated_ms, 0, f"{IMPORTED}{source}/{owner}"),
            id=UUID(bytes=digest, version=5),
            device=f"import:{source}",
            value=value,
            sent=canonical,
        )

    def _value(self, raw: Raw, at: Path = ()) -> tuple[Any, bytes]:
        """The value that is to stand at a path of the document, and its canonical bytes."""
        text = bytes(raw)
        if len(text) > self._longest:
            raise self._too_large()
        try:
            return parse(text, self.max_keys)
        except Refusal as error:
            refusal = error
            for token in reversed(at):
                refusal = refusal.below(token)
            raise refused(refusal) from error


def delete_mutation(key: str, query: DeleteQuery, now_ms: int) -> Mutation:
    return Mutation(
        op="delete",
        key=key,
        digest=_digest("delete", key, b""),
        stamp=edit_stamp(None, None, now_ms, query.device),
        id=query.id,
        device=query.device,
        base=query.base,
    )


def restore_mutation(key: str, version: int, body: RestoreBody, now_ms: int) -> Mutation:
    return Mutation(
        op="restore",
        key=key,
        digest=_digest("restore", key, str(version).encode()),
        stamp=edit_stamp(None, None, now_ms, body.device),
        id=body.id,
        device=body.device,
        revision=version,
    )


def fold_mutation(key: str, horizon: Horizon, now_ms: int) -> Mutation:
    """Housekeeping: no device asks for it, and repeating it changes nothing."""
    return Mutation(
        op="fold",
        key=key,
        digest=b"",
        stamp=edit_stamp(None, None, now_ms, None),
        horizon=horizon,
    )


def project_mutation(key: str, projection: Projection, now_ms: int) -> Mutation:
    """What events add to a document of the service's own; the events are what counts once."""
    return Mutation(
        op="project",
        key=key,
        digest=b"",
        stamp=edit_stamp(None, None, now_ms, None),
        projection=projection,
    )


def _stamp(body: PutDocument | PatchDocument, now_ms: int) -> Stamp:
    edited_at = None if body.edited_at is None else int(body.edited_at)
    sent_at = None if body.sent_at is None else int(body.sent_at)
    return edit_stamp(edited_at, sent_at, now_ms, body.device)


def _operand(operation: Operation) -> list[Any]:
    return [] if operation.value is ABSENT else [operation.value]


def _digest(op: str, key: str, content: bytes) -> bytes:
    """What a mutation asks for. Not the base nor the device: a retry may name others."""
    return blake2b(f"{op}\0{key}\0".encode() + content, digest_size=16).digest()
