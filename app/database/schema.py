"""Every table. `migrations/` builds the same; a test compares the two.

All rows belong to an account, which is the first column of every key, so that the tables can
be spread over machines by it. Times are milliseconds since 1970, as on the wire.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s",
    }
)

UPDATED_IN_PLACE: dict[str, Any] = {"postgresql_with": {"fillfactor": 50}}
"""Rows that every write updates keep room on their page, so that updates stay heap-only."""

AUTOVACUUM: dict[str, dict[str, float]] = {
    "documents": {"toast.autovacuum_vacuum_scale_factor": 0.05},
    "revisions": {"toast.autovacuum_vacuum_scale_factor": 0.05},
    "mutations": {"autovacuum_vacuum_scale_factor": 0.05},
}
"""Where PostgreSQL's default, to clean up after a fifth of the rows is dead, was measured to cost
space: values kept outside their row, and ids that are pruned. Everywhere else heap-only updates
clean up after themselves. See docs/benchmarks.md."""


def _account() -> Column[str]:
    return Column("account", Text, primary_key=True)


heads = Table(
    "heads",
    metadata,
    _account(),
    Column("seq", BigInteger, nullable=False),
    Column("tag", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("seq >= 0", name="seq_counts_up"),
    CheckConstraint("length(account) between 1 and 128", name="account_bounded"),
    comment="One narrow row an account: the sequence of its changes, locked first by every write, "
    "and a tag, random and new with each, by which a process knows that what it holds is still so.",
    **UPDATED_IN_PLACE,
)

documents = Table(
    "documents",
    metadata,
    Column("account", Text, ForeignKey(heads.c.account), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("epoch_version", BigInteger, nullable=False),
    Column("folded_version", BigInteger, nullable=False, server_default="0"),
    Column("value", JSON),
    Column("sidecar", LargeBinary, nullable=False),
    Column("rule", Text, nullable=False),
    Column("device", Text),
    Column("updated_at_ms", BigInteger, nullable=False),
    # `{1,128}` in the expression would take 13 µs, and this is checked by every write.
    CheckConstraint(r"key ~ '^[A-Za-z0-9._:~-]+$' and length(key) <= 128", name="key_allowed"),
    CheckConstraint("version >= 1 and seq >= 1", name="counts_up"),
    CheckConstraint("epoch >= 0 and epoch_version between 0 and version", name="epoch_began"),
    comment="The documents as they are; a tombstone has no value. No index on seq: see decisions.",
    postgresql_with={**UPDATED_IN_PLACE["postgresql_with"], **AUTOVACUUM["documents"]},
)

revisions = Table(
    "revisions",
    metadata,
    _account(),
    Column("key", Text, primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("value", JSON),
    Column("sidecar", LargeBinary, nullable=False),
    Column("rule", Text, nullable=False),
    Column("proposed", LargeBinary),
    Column("receipt", LargeBinary),
    Column("base", BigInteger),
    Column("outcome", Text, nullable=False),
    Column("device", Text),
    Column("mutation", Uuid),
    Column("updated_at_ms", BigInteger, nullable=False),
    CheckConstraint("version >= 1 and slot >= 0", name="counts_up"),
    CheckConstraint("outcome in ('applied', 'merged')", name="outcome_changed_something"),
    comment="The last versions of each document: a ring, slot = version modulo its length.",
    postgresql_with={**UPDATED_IN_PLACE["postgresql_with"], **AUTOVACUUM["revisions"]},
)

proposals = Table(
    "proposals",
    metadata,
    _account(),
    Column("key", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("base", BigInteger),
    Column("proposed", LargeBinary, nullable=False),
    Column("mutation", Uuid),
    Column("updated_at_ms", BigInteger, nullable=False),
    comment="What a device last proposed where that made no version, so that its next write on "
    "the same base still knows it.",
)

mutations = Table(
    "mutations",
    metadata,
    _account(),
    Column("id", Uuid, primary_key=True),
    Column("key", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("number", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("mutations_created_at_ms", "created_at_ms", postgresql_using="brin"),
    comment="The ids of accepted mutations, so that each counts once; pruned by age.",
    postgresql_with=AUTOVACUUM["mutations"],
)

devices = Table(
    "devices",
    metadata,
    _account(),
    Column("device", Text, primary_key=True),
    Column("last_mutation", Uuid),
    Column("accepted", BigInteger, nullable=False, server_default="0"),
    Column("first_seen_ms", BigInteger, nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("cursor_seq", BigInteger),
    Column("pending", Integer),
    Column("told_at_ms", BigInteger),
    comment="The local stores of an account, the last mutation accepted from each, and what each "
    "said last of itself, and when: where its copy stands, and how many mutations wait on it.",
    **UPDATED_IN_PLACE,
)

rules = Table(
    "rules",
    metadata,
    Column("pattern", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("first_used_ms", BigInteger, nullable=False),
    comment="Every merge rule ever used, in its own words, so that a changed one can read what "
    "an earlier one stored.",
)

events = Table(
    "events",
    metadata,
    _account(),
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("effects", JSON, nullable=False),
    Column("device", Text),
    Column("occurred_at_ms", BigInteger, nullable=False),
    Column("claimed_at_ms", BigInteger),
    Column("received_at_ms", BigInteger, nullable=False),
    Index(
        "events_study_sessions",
        "account",
        "occurred_at_ms",
        postgresql_where=text("type = 'session'"),
    ),
    comment="Immutable facts, each counted once; what each added to which total, and, where its "
    "time was moved, the one that the device claimed. The service may neither change nor delete "
    "them.",
)

totals = Table(
    "totals",
    metadata,
    _account(),
    Column("name", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
    comment="What the events of an account add up to.",
    **UPDATED_IN_PLACE,
)

standings = Table(
    "standings",
    metadata,
    Column("account", Text(collation="C"), primary_key=True),
    Column("board", Text, primary_key=True),
    Column("score", BigInteger, nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("settled", BigInteger),
    Index(
        "standings_ranked",
        "board",
        text("score desc"),
        text("account desc"),
        postgresql_where=text("listed"),
    ),
    Index(
        "standings_unsettled",
        "board",
        postgresql_where=text(
            "(settled is distinct from (case when listed and score > 0 then score end))::int = 1"
        ),
    ),
    comment="The score of each account on each leaderboard, and whether it wants to be seen "
    "there. Equal scores stand in the order of the bytes of the account, as in Redis. `settled` is "
    "the score under which the board counts it, none where it does not: it follows `score` within "
    "a second, and the rows that it has not yet followed are those of the index.",
    **UPDATED_IN_PLACE,
)

boards = Table(
    "boards",
    metadata,
    Column("board", Text, primary_key=True),
    Column("tag", BigInteger, nullable=False),
    Column("bounds", ARRAY(BigInteger), nullable=False),
    Column("above", ARRAY(BigInteger), nullable=False),
    Column("members", BigInteger, nullable=False),
    Column("moved", BigInteger, nullable=False),
    Column("counted_at_ms", BigInteger, nullable=False),
    CheckConstraint("cardinality(bounds) = cardinality(above)", name="counted_at_each_bound"),
    comment="How many settled scores each board has, and how many from each bound on: what makes a "
    "rank among a million quick to count. The tag is random and new with each settling; Redis "
    "names the one up to which it has followed.",
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    comment="Secrets of this deployment that all its processes share, and that a restore keeps.",
)

catalogues = Table(
    "catalogues",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("published_at_ms", BigInteger, nullable=False),
    comment="The versions of the catalogue of levels; the newest one counts.",
)

levels = Table(
    "levels",
    metadata,
    Column("level", Text, primary_key=True),
    Column(
        "version",
        Integer,
        ForeignKey(catalogues.c.version),
        primary_key=True,
        autoincrement=False,
    ),
    Column("min_correct", Integer, nullable=False),
    Column("xp_reward", Integer, nullable=False),
    Column("repeat", Text, nullable=False),
    CheckConstraint("min_correct >= 0 and xp_reward >= 0", name="reward_not_negative"),
    CheckConstraint("repeat in ('every', 'first')", name="repeat_policy"),
    comment="The catalogue from which the XP of an attempt comes.",
)

rejections = Table(
    "rejections",
    metadata,
    _account(),
    Column("key", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_at_ms", BigInteger, nullable=False),
    comment="How often mutations and events were refused, and why: for operators, and counted "
    "after the fact, so a crash may lose the last seconds.",
)

processes = Table(
    "processes",
    metadata,
    Column("process", Uuid, primary_key=True),
    Column("alive_at_ms", BigInteger, nullable=False),
    Column("listens", Boolean, nullable=False),
    comment="The processes of the service, when each last said that it lives, and whether it "
    "has sockets.",
    prefixes=["UNLOGGED"],
)

presence = Table(
    "presence",
    metadata,
    _account(),
    Column("process", Uuid, primary_key=True),
    Column("socket", Uuid, primary_key=True),
    Column("device", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    comment="Which devices are connected, by which process. Rebuilt from the sockets after a "
    "crash, so not logged.",
    prefixes=["UNLOGGED"],
)

imports = Table(
    "imports",
    metadata,
    Column("source", Text, primary_key=True),
    Column("position", Text, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    comment="How far each import has come, so that it can be resumed.",
)

eras = Table(
    "eras",
    metadata,
    Column("era", Text, primary_key=True),
    Column("identity", Text, nullable=False),
    Column("began_at_ms", BigInteger, nullable=False),
    comment="The lives of this database: a restore begins a new one, and old cursors expire.",
)
