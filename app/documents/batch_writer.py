"""One attempt at a batch: steps 2 to 6 of the life of a write, as docs/architecture.md has them."""

from collections.abc import Callable, Sequence

from app.database.engine import KeptConnection
from app.documents import store
from app.documents.cache import Cache, Head
from app.documents.deciding import Answers, Deciding
from app.documents.gathering import Gathering
from app.documents.model import Committed
from app.documents.submission import Submission
from app.documents.workspace import Workspace
from app.metering import WriteMeter

DOUBTFUL_BATCHES = 100
"""How long a process that met another on the same account does not rely on its memory alone."""


class BatchWriter:
    """Reads what a batch needs, decides it, writes it, and keeps what the next one would read."""

    def __init__(
        self, gathering: Gathering, deciding: Deciding, cache: Cache, meter: WriteMeter
    ) -> None:
        self._gathering = gathering
        self._deciding = deciding
        self._cache = cache
        self._meter = meter
        self._doubts = 0
        """Batches for which the heads are asked for, since others write the same accounts."""
        self.listeners: list[Callable[[Committed], None]] = []
        """Told of every commit that changed a document; they must neither wait nor raise."""

    async def write(
        self, kept: KeptConnection, batch: Sequence[Submission], *, lock: bool
    ) -> Answers:
        """Answers for those submissions whose accounts nobody else wrote meanwhile: for all, if
        the heads are locked.

        Raises NotProjected, DATABASE_UNAVAILABLE where there is no connection, or what the
        driver raises; then nothing is written, unless the connection was lost.
        """
        async with kept.use() as connection:
            if lock:
                async with connection.transaction():
                    done = await self._attempt(connection, batch, lock=True)
            else:
                self._doubts -= 1
                done = await self._attempt(connection, batch, lock=False)
        # 6. Committed: the caller answers, and whoever listens is poked.
        answers, workspace, heads = done
        self._keep(workspace, heads)
        committed = workspace.committed(heads)
        if committed.seqs:
            self._meter.commits += 1
            for listener in self.listeners:
                listener(committed)
        assert not lock or heads.keys() == workspace.heads.keys(), "a locked head changed"
        for submission in batch:
            submission.era = workspace.era
        if len(heads) < len(workspace.heads):
            self._doubts = DOUBTFUL_BATCHES
            self._meter.contended += 1
        return {one: answer for one, answer in answers.items() if one.account in heads}

    async def _attempt(
        self, connection: object, batch: Sequence[Submission], *, lock: bool
    ) -> tuple[Answers, Workspace, dict[str, Head]]:
        """Answers, and the present heads of those accounts for which they are so."""
        accounts = sorted({submission.account for submission in batch})
        # 2. Read the account heads: what is decided is so as long as they do not change.
        heads = await self._heads(connection, accounts, lock=lock)
        # 3. Read the documents, the bases, the seen ids, as far as they are not kept in memory.
        workspace = await self._gathering.gather(connection, accounts, heads, batch)
        # 4. Decide each mutation and event in memory.
        answers = await self._deciding.decide_all(batch, workspace)
        # 5. Write documents, revisions, ids, heads: one statement, for heads as they were.
        return answers, workspace, await workspace.write(connection)

    async def _heads(
        self, connection: object, accounts: Sequence[str], *, lock: bool
    ) -> dict[str, Head]:
        if lock or self._doubts > 0:
            return await store.read_heads(connection, accounts, lock=lock)
        kept = {name: self._cache.account(name) for name in accounts}
        heads = {name: account.head for name, account in kept.items() if account is not None}
        unknown = [name for name in accounts if name not in heads]
        if unknown:
            heads |= await store.read_heads(connection, unknown)
        return heads

    def _keep(self, workspace: Workspace, heads: dict[str, Head]) -> None:
        """Keeps what the next write on these accounts would read."""
        for account, documents in workspace.to_keep().items():
            if account in heads:
                before, absent = workspace.heads[account], workspace.still_absent(account)
                self._cache.keep(account, before, heads[account], documents, absent)
            else:
                self._cache.forget(account)
        for account, device in workspace.new_devices:
            if account in heads:
                self._cache.note(account, device, workspace.now_ms)
