"""Processes say whether they have sockets, so that nobody else sends them what they do not need."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BEFORE = "The processes of the service, and when each last said that it lives."
AFTER = (
    "The processes of the service, when each last said that it lives, and whether it has sockets."
)


def upgrade() -> None:
    op.execute("delete from processes")  # each process says anew within seconds that it lives
    op.add_column("processes", sa.Column("listens", sa.Boolean(), nullable=False))
    op.create_table_comment("processes", AFTER, existing_comment=BEFORE)


def downgrade() -> None:
    op.drop_column("processes", "listens")
    op.create_table_comment("processes", BEFORE, existing_comment=AFTER)
