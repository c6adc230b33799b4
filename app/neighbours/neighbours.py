"""The workers of one machine: each account has its home at one, and the others hand over to it.

Any process may write any account. But documents that are kept in memory serve the next write only
if no other process wrote the account meanwhile, so it is cheaper if always the same one does.
Nothing but speed depends on it: where the home cannot be asked, the request is served here.
"""

import asyncio
from pathlib import Path

import structlog

from app.answer import Answer
from app.metering import NeighbourMeter
from app.neighbours.asking import AskingEnd
from app.neighbours.places import Place, home_of, socket_path, take_place
from app.neighbours.serving import ServingEnd, Write

log = structlog.get_logger()

LOOK_S = 1.0
"""Between two looks at a link, and between two attempts to make one or to find a free place."""
CLOSING_S = 5.0
"""For which a neighbour that does not close its link is waited for."""


class Neighbours:
    """This worker's place, its links to the others, and theirs to it."""

    def __init__(self, folder: Path, places: int, write: Write) -> None:
        """`folder` is shared by the workers, and nobody else enters it; `write` serves here."""
        self.meter = NeighbourMeter()
        self._folder = folder
        self._places = places
        self._write_here = write
        self._place: Place | None = None
        self._links: dict[int, AskingEnd] = {}
        """By place; those that were made, whether or not they take requests."""
        self._guests: set[ServingEnd] = set()
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to look for a place and for the others; until they are found, all is served
        here."""
        tasks = (self._settle(), *map(self._stay_linked, range(self._places)))
        self._tasks = [asyncio.create_task(task) for task in tasks]
        for task in self._tasks:
            task.add_done_callback(_tell_of_failure)

    async def stop(self) -> None:
        """Answers what neighbours have handed over; what they send from now on they serve
        themselves."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links.values():
            link.close()
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(guest.leave() for guest in self._guests))
        closing = [guest.closed for guest in self._guests]
        if closing:
            await asyncio.wait(closing, timeout=CLOSING_S)
        for guest in self._guests:
            guest.abort()
        if self._place is not None:
            self._place.give_up()

    @property
    def links(self) -> int:
        """Neighbours that would take a request now."""
        return sum(link.takes for link in self._links.values())

    async def write(self, account: str, key: str | None, body: bytes) -> Answer:
        """Answers a PUT of the document `key`, or a sync, where the account is at home."""
        home = home_of(account, self._places)
        if self._place is None or home != self._place.number:
            link = self._links.get(home)
            if link is not None and link.takes:
                self.meter.handed_over += 1
                answer = await link.ask(account, key, body)
                if answer is not None:
                    return answer
            self.meter.away += 1
        return await self._write_here(account, key, body)

    async def _settle(self) -> None:
        """Takes a place and listens there, once the worker that this one replaces is gone."""
        try:
            place = self._place = await self._free_place()
            path = str(socket_path(self._folder, place.number))
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._guest, path)
        except OSError as error:
            log.warning("no neighbour can hand over to this worker", error=str(error))

    async def _free_place(self) -> Place:
        while True:
            place = take_place(self._folder, self._places)
            if place is not None:
                return place
            await asyncio.sleep(LOOK_S)

    def _guest(self) -> ServingEnd:
        guest = ServingEnd(self._write_here, self.meter)
        self._guests.add(guest)
        guest.closed.add_done_callback(lambda _: self._guests.discard(guest))
        return guest

    async def _stay_linked(self, place: int) -> None:
        """Keeps a link to the worker at the place, until that is this one."""
        while self._place is None or place != self._place.number:
            link = await self._connect(place)
            if link is not None:
                self._links[place] = link
                while not link.closed.done():
                    await asyncio.wait([link.closed], timeout=LOOK_S)
                    link.look()
            await asyncio.sleep(LOOK_S)

    async def _connect(self, place: int) -> AskingEnd | None:
        """A link, which takes requests once the neighbour has greeted; None if nobody listens."""
        path = str(socket_path(self._folder, place))
        try:
            _, link = await asyncio.get_running_loop().create_unix_connection(AskingEnd, path)
        except OSError:
            return None
        return link


def _tell_of_failure(task: "asyncio.Task[None]") -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("neighbours.task_failed", exc_info=error)
