"""Receipts kept with revisions, the version last folded, the rules ever used, and numbers of
mutations by which a copied store is told from a retry."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("revisions", sa.Column("receipt", sa.LargeBinary(), nullable=True))
    op.add_column("proposals", sa.Column("mutation", sa.Uuid(), nullable=True))
    op.add_column(
        "documents",
        sa.Column("folded_version", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("mutations", sa.Column("number", sa.BigInteger(), nullable=True))
    op.add_column(
        "devices", sa.Column("accepted", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_table(
        "rules",
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("first_used_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pattern", "fingerprint", name=op.f("rules_pkey")),
        comment="Every merge rule ever used, in its own words, so that a changed one can read what an earlier one stored.",
    )


def downgrade() -> None:
    op.drop_table("rules")
    op.drop_column("devices", "accepted")
    op.drop_column("mutations", "number")
    op.drop_column("documents", "folded_version")
    op.drop_column("proposals", "mutation")
    op.drop_column("revisions", "receipt")
