"""The stamps and devices of a state, in few bytes: a device table, one floor, the exceptions.

Most stamps of a document are equal, since one write made most of its fields. That one is the
floor and costs nothing; another is its distance from the floor, and devices are numbers.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from merge_rules.stamp import ZERO, Stamp

Packed = Any
"""Something that MessagePack can hold; None where the plain value says it all. Equal states
pack to equal bytes: maps are packed in the order of their keys."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


class Sidecar:
    """The device table and the floor that the packed parts of one state refer to."""

    def __init__(self, floor: Stamp = ZERO, devices: Iterable[str] = ()) -> None:
        self.floor = floor
        self.devices = list(devices)

    @classmethod
    def over(cls, stamps: Iterable[Stamp]) -> "Sidecar":
        """A sidecar whose floor is the stamp that occurs most; ties take the greatest."""
        counts = Counter(stamps)
        if not counts:
            return cls()
        return cls(max(counts, key=lambda stamp: (counts[stamp], stamp)))

    def pack_device(self, device: str) -> int:
        if device not in self.devices:
            self.devices.append(device)
        return self.devices.index(device)

    def unpack_device(self, number: int) -> str:
        return self.devices[number]

    def pack_stamp(self, stamp: Stamp) -> Packed:
        if stamp == self.floor:
            return None
        wall, counter, device = stamp
        return [wall - self.floor[0], counter, self.pack_device(device)]

    def unpack_stamp(self, packed: Packed) -> Stamp:
        if packed is None:
            return self.floor
        distance, counter, device = packed
        return (self.floor[0] + distance, counter, self.unpack_device(device))

    def dump(self, packed: Packed) -> bytes:
        """The sidecar and the packed state as bytes; empty when there is nothing to say."""
        if self.floor == ZERO and packed is None:
            return b""
        wall, counter, device = self.floor
        number = self.pack_device(device)
        return _encoder.encode([self.devices, number, wall, counter, packed])

    @classmethod
    def load(cls, data: bytes) -> tuple["Sidecar", Packed]:
        if not data:
            return cls(), None
        devices, number, wall, counter, packed = _decoder.decode(data)
        return cls((wall, counter, devices[number]), devices), packed
