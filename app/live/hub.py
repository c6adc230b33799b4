"""Who is connected to this process, and who has to be told what.

Everything here happens in one event loop. What is told is a hint: an account has reached a
sequence, or its presence changed. Whoever is told pulls for itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID


class Subscriber(Protocol):
    """A connection of one device, of whatever protocol. It counts towards the limits and is
    present as long as it has joined."""

    @property
    def id(self) -> UUID: ...

    @property
    def account(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def since_ms(self) -> int: ...

    def changed(self, seq: int | None) -> None:
        """The account has reached a sequence; None: it may have, in whatever era. Take note and
        return at once. It may be told again, and of what was pulled already."""

    def present(self, frame: bytes) -> None:
        """The `presence` frame of the account, encoded: whole, whenever it changes."""


class Full(Exception):
    """One more socket than there may be; the text says of what."""


class _Account:
    """The subscribers of an account, and the sequence that it is known to have reached."""

    __slots__ = ("reached", "subscribers")

    def __init__(self) -> None:
        self.subscribers: list[Subscriber] = []
        self.reached = 0


class Hub:
    """The subscribers of this process by account.

    `on_join` and `on_leave` tell presence. `frames` counts the frames sent, by type.
    """

    def __init__(self, *, most_sockets: int, most_of_account: int) -> None:
        self._accounts: dict[str, _Account] = {}
        self._most_sockets = most_sockets
        self._most_of_account = most_of_account
        self.on_join: Callable[[Subscriber], None] = lambda _: None
        self.on_leave: Callable[[Subscriber], None] = lambda _: None
        self.sockets = 0
        """Subscribers of this process."""
        self.refused = 0
        """Subscribers that were one too many."""
        self.frames: Counter[str] = Counter()

    @property
    def accounts(self) -> int:
        """Accounts of this process that have subscribers."""
        return len(self._accounts)

    def join(self, subscriber: Subscriber) -> None:
        """Raises Full past the limits of this process or of the account in it."""
        found = self._accounts.get(subscriber.account)
        if self.sockets >= self._most_sockets:
            self.refused += 1
            raise Full(f"this process has {self._most_sockets} sockets")
        if found is not None and len(found.subscribers) >= self._most_of_account:
            self.refused += 1
            raise Full(f"this account has {self._most_of_account} sockets")
        if found is None:
            found = self._accounts[subscriber.account] = _Account()
        found.subscribers.append(subscriber)
        self.sockets += 1
        self.on_join(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Of one that joined; to be called once, whatever ended it."""
        found = self._accounts[subscriber.account]
        found.subscribers.remove(subscriber)
        if not found.subscribers:
            del self._accounts[subscriber.account]
        self.sockets -= 1
        self.on_leave(subscriber)

    def of(self, account: str) -> Sequence[Subscriber]:
        """A copy: some leave while others are told."""
        found = self._accounts.get(account)
        return () if found is None else tuple(found.subscribers)

    def __contains__(self, account: str) -> bool:
        return account in self._accounts

    def __iter__(self) -> Iterator[Subscriber]:
        for account in list(self._accounts):
            yield from self.of(account)

    def heads(self) -> list[tuple[str, int]]:
        """Each account with the sequence that it is known to have reached."""
        return [(name, account.reached) for name, account in self._accounts.items()]

    def reached(self, seqs: Mapping[str, int]) -> None:
        """Tells the subscribers of accounts that moved on."""
        accounts = self._accounts
        for name, seq in seqs.items():
            account = accounts.get(name)
            if account is not None and seq > account.reached:
                account.reached = seq
                for subscriber in tuple(account.subscribers):
                    subscriber.changed(seq)

    def found_at(self, name: str, known: int, seq: int) -> bool:
        """What the database said of an account that was thought to be at `known`: a restore may
        have taken it back. Whether it had moved without anybody telling."""
        account = self._accounts.get(name)
        if account is None or account.reached != known:
            return False  # somebody told meanwhile
        account.reached = seq
        for subscriber in tuple(account.subscribers):
            subscriber.changed(None if seq < known else seq)
        return known > 0

    def changed_all(self) -> None:
        """Tells everybody to look: the database may have changed in any way."""
        for subscriber in self:
            subscriber.changed(None)
