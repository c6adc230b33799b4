"""What a piece of work may cost: every number that the tests of costs hold the service to.

None is a timing, so they hold on any machine. Whoever makes something cheaper lowers the number
here; whoever has to raise one says why in the commit.
"""

# Statements, BEGIN and COMMIT included, where the process wrote these documents before (warm) or
# another did (cold). The number of writes does not matter.

PUSH_STATEMENTS = 2
"""A sync with mutations on current versions of a device that is up to date: seen ids, the write.
Nothing is left to be pulled."""
COLD_PUSH_STATEMENTS = 4
"""The same where the heads and the documents have to be read first."""
BATCH_STATEMENTS = 1
"""Writes of a device without ids, each of another account."""
COLD_BATCH_STATEMENTS = 3
WRITE_STATEMENTS = 1
"""One write that names neither a device nor an id."""
RING_STATEMENTS = 1
"""The same where a revision leaves the ring, whose writers the process knows."""
MERGE_STATEMENTS = 4
"""The first write of a device that merges: its base, and what it proposed in two tables."""
EVENTS_STATEMENTS = 3
"""Any number of events of an account that this process wrote last: what was seen, the totals,
the write."""
COLD_EVENTS_STATEMENTS = 5
"""The same where the head and the documents of the account have to be read first."""
READ_STATEMENTS = 1
PULL_STATEMENTS = 1
"""The head and the documents past the cursor are of one moment."""
DASHBOARD_STATEMENTS = 1
"""Documents and study sessions are of one moment."""

BOARD_STATEMENTS = 1
"""A part of a leaderboard, ranks and names: of one moment."""
CACHED_BOARD_STATEMENTS = 2
"""The same where Redis has the board: what Redis does not know yet, and the players shown."""

STORED_BYTES = 470
"""Of the example's row in `documents`, whose value has 304 bytes and whose account has 12."""
SIDECAR_BYTES = 50
"""Of the example by one device: design §2."""
WAL_BYTES = 1_800
"""A write of about 300 bytes, without images of whole pages: a document, its revision, its head,
its device, and the share of a commit."""

HEAP_ONLY_SHARE = 0.95
"""Of the updates of a table that every write updates: no index has to be touched."""

SYNC_PEAK_BYTES = 8_000_000
"""Python's memory while a sync of 500 mutations is handled, at its greatest."""
KEPT_BLOCKS = 2_000
"""Blocks of memory that twenty more syncs of 500 known documents may leave behind."""
