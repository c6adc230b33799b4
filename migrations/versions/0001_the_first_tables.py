"""The first tables: documents with their history, mutations, devices, and the ledger's."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("last_mutation", sa.Uuid(), nullable=True),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "device", name=op.f("devices_pkey")),
        comment="The local stores of an account, and the last mutation accepted from each.",
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "eras",
        sa.Column("era", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("began_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("era", name=op.f("eras_pkey")),
        comment="The lives of this database: a restore begins a new one, and old cursors expire.",
    )
    op.create_table(
        "events",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("occurred_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name=op.f("events_pkey")),
        comment="Immutable facts, each counted once.",
    )
    op.create_table(
        "heads",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(account) between 1 and 128", name=op.f("heads_account_bounded")),
        sa.CheckConstraint("seq >= 0", name=op.f("heads_seq_counts_up")),
        sa.PrimaryKeyConstraint("account", name=op.f("heads_pkey")),
        comment="One narrow row an account: the sequence of its changes, locked first by every write.",
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "levels",
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("min_correct", sa.Integer(), nullable=False),
        sa.Column("xp_reward", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.Text(), nullable=False),
        sa.CheckConstraint("repeat in ('every', 'first')", name=op.f("levels_repeat_policy")),
        sa.CheckConstraint(
            "min_correct >= 0 and xp_reward >= 0", name=op.f("levels_reward_not_negative")
        ),
        sa.PrimaryKeyConstraint("level", "version", name=op.f("levels_pkey")),
        comment="The catalogue from which the XP of an attempt comes.",
    )
    op.create_table(
        "mutations",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "id", name=op.f("mutations_pkey")),
        comment="The ids of accepted mutations, so that each counts once; pruned by age.",
    )
    op.create_index(
        "mutations_created_at_ms",
        "mutations",
        ["created_at_ms"],
        unique=False,
        postgresql_using="brin",
    )
    op.create_table(
        "proposals",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=True),
        sa.Column("proposed", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "key", "device", name=op.f("proposals_pkey")),
        comment="What a device last proposed where that made no version, so that its next write on the same base still knows it.",
    )
    op.create_table(
        "revisions",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=True),
        sa.Column("sidecar", sa.LargeBinary(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("proposed", sa.LargeBinary(), nullable=True),
        sa.Column("base", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("mutation", sa.Uuid(), nullable=True),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "outcome in ('applied', 'merged')", name=op.f("revisions_outcome_changed_something")
        ),
        sa.CheckConstraint("version >= 1 and slot >= 0", name=op.f("revisions_counts_up")),
        sa.PrimaryKeyConstraint("account", "key", "slot", name=op.f("revisions_pkey")),
        comment="The last versions of each document: a ring, slot = version modulo its length.",
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "totals",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "name", name=op.f("totals_pkey")),
        comment="What the events of an account add up to.",
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "documents",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("epoch_version", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=True),
        sa.Column("sidecar", sa.LargeBinary(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("key ~ '^[A-Za-z0-9._:~-]{1,128}$'", name=op.f("documents_key_allowed")),
        sa.CheckConstraint(
            "epoch >= 0 and epoch_version between 0 and version", name=op.f("documents_epoch_began")
        ),
        sa.CheckConstraint("version >= 1 and seq >= 1", name=op.f("documents_counts_up")),
        sa.ForeignKeyConstraint(
            ["account"], ["heads.account"], name=op.f("documents_account_fkey")
        ),
        sa.PrimaryKeyConstraint("account", "key", name=op.f("documents_pkey")),
        comment="The documents as they are; a tombstone has no value. No index on seq: see decisions.",
        postgresql_with={"fillfactor": 50},
    )


def downgrade() -> None:
    op.drop_table("documents")
    op.drop_table("totals")
    op.drop_table("revisions")
    op.drop_table("proposals")
    op.drop_index("mutations_created_at_ms", table_name="mutations", postgresql_using="brin")
    op.drop_table("mutations")
    op.drop_table("levels")
    op.drop_table("heads")
    op.drop_table("events")
    op.drop_table("eras")
    op.drop_table("devices")
