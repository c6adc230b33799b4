"""Stamps: hybrid logical time and device, a total order over edits.

After Kulkarni et al., "Logical Physical Clocks" (2014): wall time where clocks allow it, a
counter where they do not, the device as the last resort.
"""

Stamp = tuple[int, int, str]
"""Wall time in ms, counter, device; compared in that order."""

ZERO: Stamp = (0, 0, "")

SKEW_TOLERANCE_MS = 120_000


def successor(stamp: Stamp, device: str) -> Stamp:
    """The least stamp of this device whose time and counter come after the given one's."""
    return (stamp[0], stamp[1] + 1, device)


def edit_stamp(edited_at: int | None, sent_at: int | None, now: int, device: str | None) -> Stamp:
    """The stamp of an edit, all times in ms: by the device's clock, set right by the server's.

    Where the device's clock is off by more than two minutes when it sends, the edit moves by
    as much. It never lies in the future, nor before 1970. No clock is wrong enough to refuse.
    """
    wall = now if edited_at is None else edited_at
    if edited_at is not None and sent_at is not None and abs(now - sent_at) > SKEW_TOLERANCE_MS:
        wall += now - sent_at
    return (max(0, min(wall, now)), 0, device or "")
