"""What a caller sees of a board: from Redis where it has followed, else from PostgreSQL.

Both give the same answer. Redis holds a board as PostgreSQL has settled it; what changed since is
read from PostgreSQL with the tag that says so, and corrects what Redis says. So a commit, such as
one that takes a player off the boards, is in every answer that is asked for after it. The entries
to be shown are looked up in PostgreSQL, and whatever does not fit is answered by it alone.
"""

from collections import Counter

from app.clock import Clock
from app.database.engine import Database
from app.leaderboard import names, store
from app.leaderboard.keeper import Keeper
from app.leaderboard.ranking import around, correct_count, corrected, points, ranks
from app.leaderboard.redis_boards import RedisBoards
from app.leaderboard.store import Page, Shown, State
from app.leaderboard.types import (
    BoardAnswer,
    BoardEntry,
    BoardQuery,
    OwnStanding,
    RebuildAnswer,
)
from app.leaderboard.weeks import kept_board

MOST_CHANGES = 500
"""Unsettled rows with which Redis is still asked; with more, PostgreSQL is quicker."""
SECRET = "leaderboard-names"


class Leaderboard:
    """The boards of all accounts."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        keeper: Keeper,
        cache: RedisBoards | None,
        *,
        kept_weeks: int,
    ) -> None:
        self._database = database
        self._clock = clock
        self._keeper = keeper
        self._cache = cache
        self._kept_weeks = kept_weeks
        self._names_key = b""
        self.answered = Counter(redis=0, postgresql=0)
        """How many answers came from where."""

    async def start(self) -> None:
        """Reads the secret behind invented names, which is in the database as they must last."""
        self._names_key = await self._database.read(
            lambda connection: store.secret(connection, SECRET)
        )
        if self._cache is not None:
            self._cache.namespace = names.namespace(self._names_key)

    async def read(self, account: str, name: str, query: BoardQuery) -> BoardAnswer:
        """A part of a board, as of a moment after the call; raises BOARD_NOT_FOUND."""
        board = kept_board(name, self._clock(), self._kept_weeks)
        half = (query.limit - 1) // 2 if query.around == "me" else None
        page = await self._from_redis(board, account, query.limit, half)
        self.answered["postgresql" if page is None else "redis"] += 1
        if page is None:
            page = await self._from_postgres(board, account, query.limit, half)
        return self._answer(name, account, page)

    async def rebuild(self) -> RebuildAnswer:
        """Counts every board anew, and builds anew those that Redis follows."""
        return RebuildAnswer(await self._keeper.rebuild())

    def _answer(self, name: str, account: str, page: Page) -> BoardAnswer:
        scores = [one.score for one in page.shown]
        ranked = zip(ranks(scores, page.above), page.shown, strict=True)
        ranks_of_own = page.above.get(page.score) if page.listed and page.score > 0 else None
        return BoardAnswer(
            board=name,
            entries=[
                BoardEntry(
                    rank=rank,
                    name=names.shown_name(one.account, one.name, self._names_key),
                    avatar=names.shown_avatar(one.avatar),
                    score=one.score,
                    me=one.account == account,
                )
                for rank, one in ranked
            ],
            me=OwnStanding(None if ranks_of_own is None else ranks_of_own + 1, page.score),
        )

    async def _from_postgres(self, board: str, account: str, limit: int, half: int | None) -> Page:
        """A part of a board: the first entries, or `half` on either side of the account."""
        if half is None:
            return await self._database.read(
                lambda connection: store.read_top(connection, board, account, limit)
            )
        return await self._database.read(
            lambda connection: store.read_around(connection, board, account, half)
        )

    # --- Redis ------------------------------------------------------------------------------

    async def _from_redis(
        self, board: str, account: str, limit: int, half: int | None
    ) -> Page | None:
        """The same; None where Redis cannot say."""
        cache = self._cache
        if cache is None or not cache.answers or board not in self._keeper.cached_boards():
            return None
        state = await self._database.read(
            lambda connection: store.read_state(connection, board, account, MOST_CHANGES + 1)
        )
        tag, changes = state.tag, state.changes
        if tag is None or len(changes) > MOST_CHANGES:
            return None
        own = state.score if state.listed and state.score > 0 else None
        if half is None:
            window = await cache.window(board, tag, first=limit + len(changes))
        elif own is None:
            return Page([], state.score, state.listed, {})
        elif any(change.account == account for change in changes):
            # Where it stands at present is not where Redis has it.
            return None
        else:
            window = await cache.window(board, tag, account=account, reach=half + len(changes))
        if window is None:
            return None
        if window.members != state.members:
            await cache.drop(board, "it has another number of members")
            return None
        entries = corrected(window.entries, changes)
        shown = entries[:limit] if half is None else around(entries, account, half)
        if not shown and own is not None:
            await cache.drop(board, "it lacks an account")
            return None
        needed = points(shown, own)
        settled_above = await cache.above(board, tag, needed)
        if settled_above is None:
            return None
        above = {
            score: correct_count(score, count, changes)
            for score, count in zip(needed, settled_above, strict=True)
        }
        players = await self._with_players(cache, board, state, shown, dict(window.entries))
        return None if players is None else Page(players, state.score, state.listed, above)

    async def _with_players(
        self,
        cache: RedisBoards,
        board: str,
        state: State,
        shown: list[tuple[str, int]],
        in_redis: dict[str, int],
    ) -> list[Shown] | None:
        """The entries with what players call themselves; None where one is not as it was.

        Where the board has not moved since, Redis is to blame, and is built anew.
        """
        if not shown:
            return []
        players = await self._database.read(
            lambda connection: store.read_players(connection, board, [one[0] for one in shown])
        )
        changed = {change.account for change in state.changes}
        for (account, score), player in zip(shown, players, strict=True):
            is_settled = account not in changed and player.tag == state.tag
            if is_settled and player.settled != in_redis[account]:
                await cache.drop(board, "it has another score")
                return None
            if player.present != score:
                return None
        return [
            Shown(account, score, player.name, player.avatar)
            for (account, score), player in zip(shown, players, strict=True)
        ]
