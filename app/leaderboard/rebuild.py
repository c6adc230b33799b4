"""`syncline leaderboard rebuild`: beside a service that runs, or without one."""

from app.clock import system_clock
from app.database.engine import Database
from app.database.roles import act_as_service
from app.leaderboard.keeper import Keeper
from app.leaderboard.leaderboard import Leaderboard
from app.leaderboard.redis_boards import RedisBoards
from app.leaderboard.types import RebuiltBoard
from app.settings import Settings


async def rebuild(settings: Settings, database_url: str) -> list[RebuiltBoard]:
    """Rebuilds every board of a database that is up to date."""
    database = Database(
        database_url,
        pool_size=2,
        statement_timeout_ms=settings.statement_timeout_ms,
        on_connect=act_as_service,
    )
    cache = None if settings.redis_url is None else RedisBoards(settings.redis_url)
    keeper = Keeper(database, system_clock, cache, kept_weeks=settings.board_weeks)
    leaderboard = Leaderboard(
        database, system_clock, keeper, cache, kept_weeks=settings.board_weeks
    )
    try:
        await leaderboard.start()
        return (await leaderboard.rebuild()).boards
    finally:
        if cache is not None:
            await cache.aclose()
        await database.close()
