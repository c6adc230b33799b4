"""The real service behind the port: two processes' worth of it, over HTTP, on one PostgreSQL.

A third kind of process folds. After a change of rules two other processes answer.
"""

import asyncio
import secrets
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import asyncpg
import httpx
import msgspec
from litestar import Litestar

from app import main
from app.auth.tokens import mint
from app.clock import Clock
from app.database import engine
from app.database.era import Era
from app.documents import audit as documents_audit
from app.ledger import audit as ledger_audit
from app.settings import Settings
from tests import conftest
from tests.simulation import changed_rules, first_rules
from tests.simulation.compared import Compared
from tests.simulation.gate import Gate, GatedDatabase
from tests.simulation.housekeeper import Housekeeper
from tests.simulation.model import Model
from tests.simulation.server import HISTORY, Crash, Documents, Folded, Json, Reply, canonical
from tests.simulation.world import SimulatedClock

TABLES = (
    "heads",
    "documents",
    "revisions",
    "proposals",
    "mutations",
    "devices",
    "events",
    "totals",
    "standings",
)
"""All that a backup of an account holds; parents first."""

NEW_ERA = """
insert into eras (era, identity, began_at_ms)
select $1, identity, began_at_ms + 1 from eras order by began_at_ms desc limit 1
"""
"""What a restored database shows itself as."""

RULES = (first_rules.__name__, changed_rules.__name__)
"""What SYNCLINE_RULES names before a change of rules, and after it."""


@dataclass
class Bench:
    """Two services on one database and two more with the changed rules, by one clock."""

    services: list[conftest.Service]
    gates: list[Gate]
    eras: list[Era]
    clock: SimulatedClock
    database_url: str
    runs: int = 0

    def __post_init__(self) -> None:
        self.prefix = secrets.token_hex(4)
        # The services close what is idle for five seconds: it must not be used just then.
        limits = httpx.Limits(keepalive_expiry=1)
        self.clients = [
            httpx.Client(base_url=one.url, timeout=90, limits=limits) for one in self.services
        ]
        self.threads = ThreadPoolExecutor(2)
        self.loop = asyncio.new_event_loop()
        self.connection: Any = self.run(asyncpg.connect(self.database_url))
        self.housekeepers = [Housekeeper(self.database_url, self.clock, one) for one in RULES]
        for housekeeper in self.housekeepers:
            self.run(housekeeper.start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        for housekeeper in self.housekeepers:
            self.run(housekeeper.stop())
        self.run(self.connection.close())
        self.loop.close()
        self.threads.shutdown()
        for client in self.clients:
            client.close()

    def server(self) -> tuple["Compared", SimulatedClock]:
        """A server without accounts, for one run of the machine."""
        # Housekeeping would go through all that earlier runs have left.
        self.run(self._forget(f"{self.prefix}-{self.runs}-%"))
        self.runs += 1
        service = RealService(self, f"{self.prefix}-{self.runs}")
        return Compared(service, Model(self.clock)), self.clock

    async def _forget(self, accounts: str) -> None:
        for table in reversed(TABLES):
            await self.connection.execute(f"delete from {table} where account like $1", accounts)


@contextmanager
def bench(database_url: str) -> Iterator[Bench]:
    """Starts the services; their settings are the defaults but for a short history."""
    gates, clock = [Gate() for _ in range(2 * len(RULES))], SimulatedClock()
    services: list[conftest.Service] = []
    eras: list[Era] = []

    def kept_era(clock: Clock) -> Era:
        eras.append(Era(clock))
        return eras[-1]

    def timed_app(settings: Settings) -> Litestar:
        return main.create_app(settings, clock)

    with ExitStack() as stack:
        # A step that takes long on a busy machine is no failure; a 503 would be taken for one.
        patience: dict[str, Any] = {
            "CONNECT_TIMEOUT_S": 60.0,
            "POOL_TIMEOUT_S": 60.0,
            "LOCK_TIMEOUT_MS": 60_000,
        }
        stack.enter_context(patch.multiple(engine, **patience))
        for number, gate in enumerate(gates):
            database = type("Gated", (GatedDatabase,), {"gate": gate})
            with (
                patch.object(main, "Database", database),
                patch.object(main, "Era", kept_era),
                patch.object(conftest, "create_app", timed_app),
            ):
                # Time leaps here, and mutations are not to be forgotten by it.
                serving = conftest.serving(
                    database_url,
                    history=HISTORY,
                    mutation_days=10**6,
                    rules=RULES[number // 2],
                    statement_timeout_ms=60_000,
                )
                services.append(stack.enter_context(serving))
        made = Bench(services, gates, eras, clock, database_url)
        stack.callback(made.close)
        yield made


class RealService:
    """The port, over HTTP. Accounts are this run's own."""

    def __init__(self, bench: Bench, prefix: str) -> None:
        self.bench = bench
        self.prefix = prefix
        self.tokens: dict[str, str] = {}
        self.rules = 0
        """Which of RULES is in force, and so which services answer."""

    def sync(self, account: str, request: Json, crash: Crash | None = None) -> Reply:
        gate = self._gates()[0]
        if crash is not None:
            gate.crashes.append(crash)
        reply = self._post(0, account, request)
        gate.crashes.clear()  # a request that wrote nothing met no COMMIT
        return reply

    def overlap(self, account: str, first: Json, second: Json) -> tuple[Reply, Reply]:
        """The first is held at its COMMIT while the second goes to the other service."""
        gates = self._gates()
        gates[0].close()
        one = self.bench.threads.submit(self._post, 0, account, first)
        while not (gates[0].arrived.wait(0.001) or one.done()):
            pass
        if one.done():
            gates[0].open()
            return one.result(), self._post(1, account, second)
        gates[1].close()
        other = self.bench.threads.submit(self._post, 1, account, second)
        # It has read what the first has not committed yet, and can only wait now.
        while not (gates[1].decided.wait(0.001) or other.done()):
            pass
        gates[0].open()
        answer = one.result()
        gates[1].open()
        return answer, other.result()

    def documents(self, account: str) -> Documents:
        reply = self._post(0, account, {"limit": 500})
        assert reply.status == 200, reply
        return {
            one["key"]: (one["version"], canonical(one["value"])) for one in reply.body["changes"]
        }

    def accepted(self, account: str) -> frozenset[str]:
        ids = "select id from mutations where account = $1"
        rows = self.bench.run(self.bench.connection.fetch(ids, self._name(account)))
        return frozenset(str(row["id"]) for row in rows)

    def recorded(self, account: str) -> frozenset[str]:
        ids = "select id from events where account = $1"
        rows = self.bench.run(self.bench.connection.fetch(ids, self._name(account)))
        return frozenset(str(row["id"]) for row in rows)

    def audit(self, account: str) -> list[str]:
        return [what for _, what in self.bench.run(self._audit([self._name(account)]))]

    async def _audit(self, accounts: list[str]) -> list[tuple[str, str]]:
        """As `syncline audit` looks at an account."""
        connection = self.bench.connection
        _, documents = await documents_audit.find_differences(connection, accounts)
        _, totals = await ledger_audit.find_differences(connection, accounts)
        return [*documents, *totals]

    def fold(self, before_ms: int) -> None:
        self.bench.run(self.bench.housekeepers[self.rules].fold(before_ms))

    def folded(self) -> Folded:
        rows = self.bench.run(
            self.bench.connection.fetch(
                "select account, key, folded_version from documents"
                " where account like $1 and folded_version > 0",
                f"{self.prefix}-%",
            )
        )
        skip = len(self.prefix) + 1
        return {(row["account"][skip:], row["key"]): row["folded_version"] for row in rows}

    def change_rules(self) -> None:
        self.rules = 1

    def _gates(self) -> list[Gate]:
        return self.bench.gates[2 * self.rules :][:2]

    def back_up(self) -> None:
        self.bench.run(self._back_up())

    async def _back_up(self) -> None:
        await self.bench.connection.execute("create schema if not exists backup")
        for table in TABLES:
            await self.bench.connection.execute(
                f"create table if not exists backup.{table} (like public.{table});"
                f" insert into backup.{table} select * from public.{table}"
                f" where account like '{self.prefix}-%'"
            )

    def restore(self) -> None:
        era = secrets.token_hex(4)
        self.bench.run(self._restore(era))
        for known in self.bench.eras:
            known.newest = era  # a service learns it with the connections that a restore costs it

    async def _restore(self, era: str) -> None:
        connection = self.bench.connection
        async with connection.transaction():
            for table in reversed(TABLES):
                await connection.execute(
                    f"delete from public.{table} where account like '{self.prefix}-%'"
                )
            for table in TABLES:
                await connection.execute(
                    f"insert into public.{table} select * from backup.{table}"
                    f" where account like '{self.prefix}-%'"
                )
            await connection.execute(NEW_ERA, era)

    def _name(self, account: str) -> str:
        return f"{self.prefix}-{account}"

    def _post(self, service: int, account: str, request: Json) -> Reply:
        headers, client = self._authorization(account), self.bench.clients[2 * self.rules + service]
        if request.get("alone") and request["events"]:
            return _events_alone(client, request, headers)
        if request.get("alone"):
            return _alone(client, request, headers)
        content = msgspec.json.encode(request)
        response = client.post("/v1/sync", content=content, headers=headers)
        return Reply(response.status_code, msgspec.json.decode(response.content))

    def _authorization(self, account: str) -> dict[str, str]:
        token = self.tokens.get(account)
        if token is None:
            # Its life is by the simulated clock, which leaps.
            token = mint(
                conftest.SECRET, self._name(account), ttl_s=10**10, now_ms=self.bench.clock()
            )
            self.tokens[account] = token
        return {"Authorization": f"Bearer {token}"}


def _events_alone(client: httpx.Client, request: Json, headers: dict[str, str]) -> Reply:
    content = {name: request[name] for name in ("events", "device", "sent_at")}
    response = client.post("/v1/events", json=content, headers=headers)
    told = msgspec.json.decode(response.content)
    if response.status_code != 200:
        return Reply(response.status_code, told)
    return Reply(200, {"results": [], "events": told["results"]})


def _alone(client: httpx.Client, request: Json, headers: dict[str, str]) -> Reply:
    """A mutation by the route of its document; the answer as a sync would tell it."""
    (body,) = request["mutations"]
    path, identity = f"/v1/documents/{body['key']}", {"id": body["id"], "key": body["key"]}
    if body["op"] == "delete":
        query = {name: body[name] for name in ("base", "id") if body[name] is not None}
        query["device"] = request["device"]
        response = client.delete(path, params=query, headers=headers)
    else:
        content = {name: body[name] for name in body if name not in ("op", "key")}
        content |= {"device": request["device"], "sent_at": request["sent_at"]}
        response = client.request(body["op"].upper(), path, json=content, headers=headers)
    told = msgspec.json.decode(response.content)
    if response.status_code in (200, 201):
        return Reply(200, {"results": [told | identity]})
    if told["code"] in ("base-unknown", "document-not-found", "server-owned"):
        rejected = {"outcome": "rejected", "problem": {"code": told["code"]}}
        return Reply(200, {"results": [rejected | identity]})
    return Reply(response.status_code, told)
