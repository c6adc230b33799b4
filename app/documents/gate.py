"""How much of one account is worked on at once: the rest waits before it is decoded.

Batches are shared fairly, but what comes before them is not: thirty requests of one account that
arrive together are all decoded before anybody else has a turn.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from app.database.engine import unavailable
from app.errors import Code, SynclineError

AT_WORK = 16 * 1024
"""Bytes of one account that are worked on at once while others ask; one request always is."""
AT_WORK_ALONE = 1024 * 1024
"""The same, while nobody else asks: who is alone may take whatever the pipeline bears."""
ALONE_AFTER_S = 1.0
"""How long nobody else has asked by then."""
REQUEST = 1024
"""What a request counts beside its body: the least of them takes some of the processor, too."""
WAITING_OF_ONE = 1024 * 1024
"""Bytes of one account that may wait; one request always may."""
WAITING = 64 * 1024 * 1024
"""Bytes of all accounts that may wait."""


@dataclass(slots=True)
class _Line:
    """The requests of an account that wait, in order, with what each counts."""

    turns: "dict[asyncio.Future[bool], int]" = field(default_factory=dict)
    size: int = 0


class Gate:
    """Lets the requests of an account in by turns, as they came."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._at_work: dict[str, int] = {}
        self._lines: dict[str, _Line] = {}
        self._waiting = 0
        self._last = ""
        self._others_until_s = 0.0

    @property
    def waiting(self) -> int:
        """Bytes that wait."""
        return self._waiting

    def passing(self, account: str, body_bytes: int) -> "_Passing":
        """`async with`: begins when the request's turn has come.

        Raises OVERLOADED; or DATABASE_UNAVAILABLE, if that is what one before it has met.
        """
        return _Passing(self, account, body_bytes + REQUEST)

    def note(self, account: str) -> None:
        """Tells that an account asks for something, if only to read."""
        if account != self._last:
            self._last = account
            self._others_until_s = self._clock_s() + ALONE_AFTER_S

    async def enter(self, account: str, size: int) -> None:
        self.note(account)
        at_work = self._at_work.get(account)
        if at_work is None:
            self._at_work[account] = size
        elif account not in self._lines and at_work + size <= self._most():
            self._at_work[account] = at_work + size
        else:
            await self._wait(account, size)

    def leave(self, account: str, size: int) -> None:
        left = self._at_work[account] - size
        if left:
            self._at_work[account] = left
        else:
            del self._at_work[account]
        if self._lines:
            self._let_in(account)

    def turn_away(self, account: str) -> None:
        """The database cannot serve the account: who waits need not find out one after another."""
        line = self._lines.pop(account, None)
        if line is not None:
            self._waiting -= line.size
            for turn in line.turns:
                if not turn.cancelled():
                    turn.set_result(False)
            line.turns.clear()

    def _most(self) -> int:
        return AT_WORK if self._clock_s() < self._others_until_s else AT_WORK_ALONE

    async def _wait(self, account: str, size: int) -> None:
        line = self._lines.get(account)
        full = line is not None and line.size + size > WAITING_OF_ONE
        if full or self._waiting + size > WAITING:
            raise SynclineError(Code.OVERLOADED, "Send the same request again after Retry-After.")
        if line is None:
            line = self._lines[account] = _Line()
        turn = asyncio.get_running_loop().create_future()
        line.turns[turn] = size
        line.size += size
        self._waiting += size
        try:
            let_in = await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._step_out(line, turn)
                self._let_in(account)
            elif turn.result():
                self.leave(account, size)
            raise
        if not let_in:
            raise unavailable()

    def _let_in(self, account: str) -> None:
        """Begins the turns of those who wait, in order, as far as there is room."""
        line = self._lines.get(account)
        if line is None:
            return
        most = self._most()
        while line.turns:
            turn, size = next(iter(line.turns.items()))
            at_work = self._at_work.get(account, 0)
            if at_work and at_work + size > most:
                return
            self._step_out(line, turn)
            if not turn.cancelled():
                self._at_work[account] = at_work + size
                turn.set_result(True)
        del self._lines[account]

    def _step_out(self, line: _Line, turn: "asyncio.Future[bool]") -> None:
        size = line.turns.pop(turn, 0)
        line.size -= size
        self._waiting -= size


class _Passing:
    """A request from its turn until it is answered."""

    __slots__ = ("_account", "_gate", "_size")

    def __init__(self, gate: Gate, account: str, size: int) -> None:
        self._gate = gate
        self._account = account
        self._size = size

    async def __aenter__(self) -> None:
        await self._gate.enter(self._account, self._size)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, SynclineError) and error.code is Code.DATABASE_UNAVAILABLE:
            self._gate.turn_away(self._account)
        self._gate.leave(self._account, self._size)
