"""What a device proposed, as a column holds it. Not compiled: a compiled struct loses its types."""

import msgspec

from app.documents.model import Proposed
from merge_rules.state import Stored


class _Packed(msgspec.Struct, array_like=True, omit_defaults=True):
    """The rule that made it, what is joined, the copy."""

    rule: str
    value: bytes | None
    sidecar: bytes
    copy: tuple[bytes | None, bytes] | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack(rule: str, proposed: Proposed) -> bytes:
    """A proposal with the fingerprint of the rule that made it, as MessagePack."""
    stored, copy = proposed.stored, proposed.copy
    packed = _Packed(rule, stored.value, stored.sidecar, copy and (copy.value, copy.sidecar))
    return _encode(packed)


def unpack(data: bytes) -> tuple[str, Proposed]:
    """What `pack` packed."""
    packed = _decode(data)
    copy = None if packed.copy is None else Stored(*packed.copy)
    return packed.rule, Proposed(Stored(packed.value, packed.sidecar), copy)
