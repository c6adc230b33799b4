"""Accounts that another session holds: they wait here, so that nobody else waits for them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from app.database.engine import Database, KeptConnection, unavailable
from app.documents.submission import Submission
from app.errors import Code, SynclineError

log = structlog.get_logger()

Commit = Callable[[KeptConnection, Sequence[Submission]], Awaitable[Sequence[Submission]]]
"""Commits a batch, locks and all, and answers it; gives what it left unanswered, since another
session holds the account."""
Fail = Callable[[Sequence[Submission], SynclineError], None]


@dataclass(slots=True)
class _Parked:
    """What waits of one account, in order, and until when by the loop's clock."""

    until_s: float
    submissions: list[Submission] = field(default_factory=list)


class Parking:
    """Tries again, batch after batch, what is held, until it goes through or its time is over.

    One task and one connection serve all accounts. An attempt waits in the line for the first lock
    that is held, for HELD_AFTER_MS, and then commits the accounts that are not held any more: so
    a lone account goes on the moment it is let go, and several do so soon after.
    """

    def __init__(
        self,
        database: Database,
        commit: Commit,
        fail: Fail,
        let_go: Callable[[str, SynclineError | None], None],
        limit: int,
    ) -> None:
        """`let_go` is told of each account once nothing of it waits here, and of the error, if it
        was one; `limit` is that of a batch, by size."""
        self._database = database
        self._commit = commit
        self._fail = fail
        self._let_go = let_go
        self._limit = limit
        self._connection = database.kept(patient=False)
        self._parked: OrderedDict[str, _Parked] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self.size = 0
        """Mutations and events that wait."""

    @property
    def accounts(self) -> int:
        return len(self._parked)

    def add(self, held: Sequence[Submission]) -> None:
        """Takes these over; nothing of their accounts is to be served until they are let go."""
        until_s = asyncio.get_running_loop().time() + self._database.patience_s
        for submission in held:
            parked = self._parked.setdefault(submission.account, _Parked(until_s))
            parked.submissions.append(submission)
            self.size += submission.size
        log.warning("accounts are held by another session", parked=len(self._parked))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends the connection; nothing waits any more once the lane has ended."""
        await self._connection.close()

    async def _run(self) -> None:
        try:
            while self._parked:
                await self._attempt(self._next())
        except Exception:
            log.exception("parked accounts failed")
        finally:
            self._task = None
            # Whatever ended this, no account may wait for ever, nor be set aside for ever.
            for account in list(self._parked):
                self._end(account, SynclineError(Code.INTERNAL, "The service's log says why."))

    def _next(self) -> list[str]:
        """The accounts of the next batch, those first that waited longest for their turn."""
        accounts: list[str] = []
        size = 0
        for account, parked in self._parked.items():
            size += sum(submission.size for submission in parked.submissions)
            if accounts and size > self._limit:
                break
            accounts.append(account)
        return accounts

    async def _attempt(self, accounts: Sequence[str]) -> None:
        batch = [one for account in accounts for one in self._parked[account].submissions]
        left = set(await self._commit(self._connection, batch))
        now_s = asyncio.get_running_loop().time()
        # None is the first for ever: what stands behind it may not have been tried.
        for account in (*accounts[1:], accounts[0]):
            parked = self._parked[account]
            waiting, parked.submissions = parked.submissions, []
            for submission in waiting:
                if submission in left:
                    parked.submissions.append(submission)
                else:
                    self.size -= submission.size
            if parked.submissions:
                self._parked.move_to_end(account)
            else:
                self._end(account, None)
        for account, parked in list(self._parked.items()):
            if now_s >= parked.until_s:
                self._end(account, unavailable())

    def _end(self, account: str, error: SynclineError | None) -> None:
        """Lets an account go; what is left of it fails."""
        left = self._parked.pop(account).submissions
        self.size -= sum(submission.size for submission in left)
        if error is not None:
            self._fail(left, error)
        self._let_go(account, error)
