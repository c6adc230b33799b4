"""Commits a batch and answers it, whatever goes wrong: as a whole, or piece by piece.

A batch that fails because the database went away is tried again. One that fails because of
something in it is taken apart, so that nobody fails with somebody else.
"""

import asyncio
from collections.abc import Iterator, Sequence

import structlog

from app.database.engine import KeptConnection, unavailable
from app.database.retry import (
    RETRIES,
    is_database_trouble,
    is_exhausted,
    is_held,
    is_of_the_content,
    is_stuck,
    is_transient,
    pause_before,
)
from app.documents import store
from app.documents.batch_writer import BatchWriter
from app.documents.deciding import Answers, NotProjected
from app.documents.model import Decision
from app.documents.submission import Submission
from app.errors import Code, SynclineError
from app.ledger.model import EventDecision
from app.metering import WriteMeter

log = structlog.get_logger()

STUCK_IN_A_ROW = 2
"""After so many that were tried alone and are stuck, others are taken to be stuck as well."""


class Committer:
    """Brings batches through, on a connection that the caller lends."""

    def __init__(self, writer: BatchWriter, meter: WriteMeter) -> None:
        self._writer = writer
        self._meter = meter

    async def commit(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        *,
        lock: bool = False,
        again: bool = False,
    ) -> Sequence[Submission]:
        """Commits a batch and answers it; what fails as a whole is tried piece by piece.

        Gives what it could not answer, since another session holds the account: of each account
        all that was to come after it, too. `lock`: with the heads locked from the start; `again`:
        all of them were found free before, and yet something was held.
        """
        try:
            answers = await self._write_with_retries(connection, batch, lock=lock)
        except SynclineError as error:
            if is_held(error.__cause__):
                return await self._commit_free(connection, batch, lock=lock, again=again)
            accounts = _by_account(batch)
            if len(accounts) > 1 and is_stuck(error.__cause__):
                # One of the accounts may be at fault: the others need not fail with it.
                return await self._commit_parts(connection, accounts, lock=lock)
            fail(batch, error)
        except Exception as error:
            if is_of_the_content(error):
                return await self._commit_apart(connection, batch, error, lock=lock)
            log.error("batch failed", exc_info=error)
            fail(batch, SynclineError(Code.INTERNAL, "The service's log says why."))
        else:
            for submission, answer in answers.items():
                for one in submission.recorded:
                    self._meter.events[one.event.type.name, one.outcome] += 1
                if not submission.answer.done():
                    submission.answer.set_result(answer)
            late = [submission for submission in batch if submission not in answers]
            if late:
                # Another process wrote these accounts meanwhile: now it has to wait. What is
                # committed and answered by now is not decided again, whatever becomes of these.
                return await self.commit(connection, late, lock=True)
        return ()

    async def _commit_free(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        *,
        lock: bool,
        again: bool,
    ) -> Sequence[Submission]:
        """Commits a batch without the accounts that are held; gives those."""
        parts = _by_account(batch)
        if len(parts) == 1:
            return batch
        try:
            async with connection.use() as driver:
                found = await store.find_held(driver, [part[0].account for part in parts])
        except Exception as error:
            if is_database_trouble(error):
                return batch  # all of them: the whole table is locked, say
            raise
        free = [one for one in batch if found.get(one.account) is False]
        if len(free) == len(batch) and not again:
            return await self.commit(connection, batch, lock=lock, again=True)
        if len(free) == len(batch):
            # What is held is no head: each account shows by itself whether it is its own.
            return await self._commit_parts(connection, parts, lock=lock)
        left = [one for one in batch if found.get(one.account)]
        if free:
            left += await self.commit(connection, free, lock=lock)
        being_made = [part for part in parts if part[0].account not in found]
        left += await self._commit_parts(connection, being_made, lock=lock)
        return left

    async def _commit_parts(
        self, connection: KeptConnection, parts: Sequence[Sequence[Submission]], *, lock: bool
    ) -> Sequence[Submission]:
        """Commits part after part, each of one account; gives what is held, and what stays
        behind it."""
        left: list[Submission] = []
        held: set[str] = set()
        stuck = 0
        for part in parts:
            account = part[0].account
            if account in held or stuck == STUCK_IN_A_ROW:
                left += part
                continue
            unanswered = await self.commit(connection, part, lock=lock)
            stuck = stuck + 1 if unanswered else 0
            if unanswered:
                held.add(account)
                left += unanswered
        return left

    async def _commit_apart(
        self,
        connection: KeptConnection,
        batch: Sequence[Submission],
        error: Exception,
        *,
        lock: bool,
    ) -> Sequence[Submission]:
        """One bad mutation must not take others with it: each is committed alone."""
        if len(batch) > 1:
            return await self._commit_parts(connection, [[one] for one in batch], lock=lock)
        (submission,) = batch
        if submission.size == 1 and isinstance(error, NotProjected):
            (event,) = submission.events
            submission.recorded = [EventDecision(event, "rejected", error.problem)]
            if not submission.answer.done():
                submission.answer.set_result([])
            return ()
        if submission.size == 1:
            key = submission.mutations[0].key if submission.mutations else "an event"
            log.error("mutation failed", key=key, exc_info=error)
            fail(batch, SynclineError(Code.INTERNAL, "The service's log says why."))
            return ()
        submission.recorded, submission.seqs = [], None
        decisions: list[Decision] = []
        for alone in _apart(submission):
            alone.answer = asyncio.get_running_loop().create_future()
            if await self.commit(connection, [alone], lock=lock):
                # Some of its mutations may be committed: it is not to be decided again as a whole.
                fail(batch, unavailable())
                return ()
            answer = alone.answer.result()
            if not isinstance(answer, SynclineError):
                decisions += answer
                submission.recorded += alone.recorded
            elif answer.code is Code.INTERNAL:
                if alone.mutations:
                    decisions.append(Decision(None, None, problem=answer))
                submission.recorded += [
                    EventDecision(event, "rejected", answer) for event in alone.events
                ]
            else:
                fail(batch, answer)
                return ()
        if not submission.answer.done():
            submission.answer.set_result(decisions)
        return ()

    async def _write_with_retries(
        self, connection: KeptConnection, batch: Sequence[Submission], *, lock: bool
    ) -> Answers:
        """A lost connection leaves the commit unknown: the ids that it wrote tell, next time."""
        for attempt in range(RETRIES):
            try:
                return await self._writer.write(connection, batch, lock=lock)
            except Exception as error:
                if is_exhausted(error):
                    if not is_held(error):
                        log.warning("batch cannot be committed", error=repr(error))
                    raise unavailable() from error
                if not is_transient(error):
                    raise
                log.warning("batch is tried again", attempt=attempt, error=repr(error))
                self._meter.retries += 1
                if attempt + 1 < RETRIES:
                    await asyncio.sleep(pause_before(attempt))
        raise unavailable()


def _by_account(batch: Sequence[Submission]) -> list[list[Submission]]:
    parts: dict[str, list[Submission]] = {}
    for submission in batch:
        parts.setdefault(submission.account, []).append(submission)
    return list(parts.values())


def _apart(submission: Submission) -> Iterator[Submission]:
    """Each mutation and each event of a submission in one of its own."""
    account, device = submission.account, submission.device
    for index, mutation in enumerate(submission.mutations):
        alone = Submission(account, [mutation], device, numbered=submission.numbered)
        if index == 0:
            alone.after, alone.of_this_era = submission.after, submission.of_this_era
            alone.checks_fork, alone.previous = submission.checks_fork, submission.previous
            alone.together = submission.mutations
        yield alone
    for event in submission.events:
        yield Submission(account, [], device, events=[event])


def fail(batch: Sequence[Submission], error: SynclineError) -> None:
    """Answers with the error what has no answer yet."""
    for submission in batch:
        if not submission.answer.done():
            submission.answer.set_result(error.as_value())
