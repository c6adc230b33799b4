"""A tag on each head, so that a process knows whether what it holds is still so."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("heads", sa.Column("tag", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table_comment(
        "heads",
        "One narrow row an account: the sequence of its changes, locked first by every write, and a tag, random and new with each, by which a process knows that what it holds is still so.",
        existing_comment="One narrow row an account: the sequence of its changes, locked first by every write.",
    )


def downgrade() -> None:
    op.create_table_comment(
        "heads",
        "One narrow row an account: the sequence of its changes, locked first by every write.",
        existing_comment="One narrow row an account: the sequence of its changes, locked first by every write, and a tag, random and new with each, by which a process knows that what it holds is still so.",
    )
    op.drop_column("heads", "tag")
