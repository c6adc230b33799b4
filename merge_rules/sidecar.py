"""The stamps and devices of a state, in few bytes: a device table, one floor, the exceptions.

Most stamps of a document are equal, since one write made most of its fields. That one is the
floor and costs nothing; another is its distance from the floor. Devices are numbers, the
floor's is 0, and keys are their place in the value that stands beside the sidecar.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from merge_rules.stamp import ZERO, Stamp

Packed = Any
"""Something that MessagePack can hold; None where the plain value says it all. Equal states
pack to equal bytes: maps are packed in the order of their keys."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Sidecar:
    """The device table and the floor that the packed parts of one state refer to."""

    def __init__(self, floor: Stamp = ZERO, devices: Iterable[str] = ()) -> None:
        self.floor = floor
        self.devices = list(devices)

    @classmethod
    def over(cls, stamps: Iterable[Stamp]) -> "Sidecar":
        """A sidecar whose floor is the stamp that occurs most; ties take the greatest."""
        counts: dict[Stamp, int] = {}
        for stamp in stamps:
            counts[stamp] = counts.get(stamp, 0) + 1
        if not counts:
            return cls()
        floor, most = ZERO, 0
        for stamp, count in counts.items():
            if count > most or (count == most and stamp > floor):
                floor, most = stamp, count
        return cls(floor, [floor[2]])

    def pack_device(self, device: str) -> int:
        if device not in self.devices:
            self.devices.append(device)
        return self.devices.index(device)

    def unpack_device(self, number: int) -> str:
        return self.devices[number]

    def pack_stamp(self, stamp: Stamp) -> Packed:
        """None for the floor, else the distance in ms, [distance, device] or those and counter."""
        if stamp == self.floor:
            return None
        wall, counter, name = stamp
        distance, device = wall - self.floor[0], self.pack_device(name)
        if counter:
            return [distance, device, counter]
        return [distance, device] if device else distance

    def unpack_stamp(self, packed: Packed) -> Stamp:
        if packed is None:
            return self.floor
        distance, device, counter = packed, 0, 0
        if not isinstance(packed, int):
            distance, device, *rest = packed
            counter = rest[0] if rest else 0
        return (self.floor[0] + distance, counter, self.unpack_device(device))

    def dump(self, packed: Packed) -> bytes:
        """The sidecar and the packed state as bytes; empty when there is nothing to say."""
        if self.floor == ZERO and packed is None:
            return b""
        names = [_pack_name(device) for device in self.devices]
        wall, counter, _ = self.floor
        return _encoder.encode([wall, counter, names[0] if len(names) == 1 else names, packed])

    @classmethod
    def load(cls, data: bytes) -> tuple["Sidecar", Packed]:
        if not data:
            return cls(), None
        wall, counter, names, packed = _decoder.decode(data)
        devices = [_unpack_name(name) for name in (names if isinstance(names, list) else [names])]
        return cls((wall, counter, devices[0] if devices else ""), devices), packed


def _pack_name(device: str) -> str | bytes:
    """A device's name; most are UUIDs, which are 16 bytes rather than 36."""
    return bytes.fromhex(device.replace("-", "")) if _UUID.fullmatch(device) else device


def _unpack_name(name: str | bytes) -> str:
    if isinstance(name, str):
        return name
    digits = name.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def pack_keys(packed: Mapping[str, Packed], value: Any) -> Packed:
    """Packed parts by key, where a key of the value is its place among the value's keys."""
    if not packed:
        return None
    keys = sorted(value) if value else []
    return {
        bisect_left(keys, key) if value and key in value else key: item
        for key, item in packed.items()
    }


def unpack_keys(packed: Packed, value: Any) -> dict[str, Packed]:
    """The parts that `pack_keys` packed, by key again."""
    if not packed:
        return {}
    keys = sorted(value) if value else []
    return {keys[key] if isinstance(key, int) else key: item for key, item in packed.items()}
