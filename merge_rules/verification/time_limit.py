"""A limit on the time of code that may never come back."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_AGAIN_S = 0.25
"""A rule that swallows the interruption is interrupted again."""


class TimeUp(BaseException):
    """The code took longer than it may; no `except Exception` in it holds this up."""


class time_limit:  # noqa: N801 - reads as the statement that it is used in
    """Raises TimeUp inside a `with` block once the time is over.

    By an alarm, so only in the main thread; elsewhere there is no limit. What loops in C
    without ever looking at signals is not interrupted.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._armed = False
        self._before: Any = None
        self._outer = (0.0, 0.0)

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGALRM, self._ring)
            self._armed = True
            self._outer = signal.setitimer(signal.ITIMER_REAL, self.seconds, _AGAIN_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._armed:
            self._armed = False  # first, since the alarm may ring again while it is put away
            signal.setitimer(signal.ITIMER_REAL, *self._outer)
            signal.signal(signal.SIGALRM, self._before)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            raise TimeUp
