"""Values outside their row, and ids that are pruned, are cleaned up at a twentieth, not a fifth."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SETTINGS = (
    ("documents", "toast.autovacuum_vacuum_scale_factor"),
    ("revisions", "toast.autovacuum_vacuum_scale_factor"),
    ("mutations", "autovacuum_vacuum_scale_factor"),
)


def upgrade() -> None:
    for table, name in SETTINGS:
        op.execute(f"alter table {table} set ({name} = 0.05)")


def downgrade() -> None:
    for table, name in SETTINGS:
        op.execute(f"alter table {table} reset ({name})")
