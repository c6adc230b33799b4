"""What events need: effects, standings, catalogues; and presence, rejections, imports."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

EVENTS = "Immutable facts, each counted once"
DEVICES = "The local stores of an account"


def upgrade() -> None:
    _extend_events()
    _extend_devices()
    op.create_table(
        "standings",
        sa.Column("account", sa.Text(collation="C"), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account", "board", name=op.f("standings_pkey")),
        comment="The score of each account on each leaderboard, and whether it wants to be seen there. Equal scores stand in the order of the bytes of the account, as in Redis. `settled` is the score under which the board counts it, none where it does not: it follows `score` within a second, and the rows that it has not yet followed are those of the index.",
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "standings_ranked",
        "standings",
        ["board", sa.text("score desc"), sa.text("account desc")],
        postgresql_where=sa.text("listed"),
    )
    op.create_index(
        "standings_unsettled",
        "standings",
        ["board"],
        postgresql_where=sa.text(
            "(settled is distinct from (case when listed and score > 0 then score end))::int = 1"
        ),
    )
    _create_boards()
    op.create_table(
        "catalogues",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("published_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("catalogues_pkey")),
        comment="The versions of the catalogue of levels; the newest one counts.",
    )
    op.create_foreign_key(
        op.f("levels_version_fkey"), "levels", "catalogues", ["version"], ["version"]
    )
    op.create_table(
        "rejections",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("last_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "key", "code", name=op.f("rejections_pkey")),
        comment="How often mutations and events were refused, and why: for operators, and counted after the fact, so a crash may lose the last seconds.",
    )
    op.create_table(
        "processes",
        sa.Column("process", sa.Uuid(), nullable=False),
        sa.Column("alive_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("process", name=op.f("processes_pkey")),
        comment="The processes of the service, and when each last said that it lives.",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "presence",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("process", sa.Uuid(), nullable=False),
        sa.Column("socket", sa.Uuid(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "process", "socket", name=op.f("presence_pkey")),
        comment="Which devices are connected, by which process. Rebuilt from the sockets after a crash, so not logged.",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "imports",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("position", sa.Text(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("imports_pkey")),
        comment="How far each import has come, so that it can be resumed.",
    )


def _create_boards() -> None:
    op.create_table(
        "boards",
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("tag", sa.BigInteger(), nullable=False),
        sa.Column("bounds", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("above", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("members", sa.BigInteger(), nullable=False),
        sa.Column("moved", sa.BigInteger(), nullable=False),
        sa.Column("counted_at_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "cardinality(bounds) = cardinality(above)", name=op.f("boards_counted_at_each_bound")
        ),
        sa.PrimaryKeyConstraint("board", name=op.f("boards_pkey")),
        comment="How many settled scores each board has, and how many from each bound on: what makes a rank among a million quick to count. The tag is random and new with each settling; Redis names the one up to which it has followed.",
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("secrets_pkey")),
        comment="Secrets of this deployment that all its processes share, and that a restore keeps.",
    )


def _extend_events() -> None:
    """No version of Syncline wrote events until now, so no row needs its effects."""
    op.add_column("events", sa.Column("effects", sa.JSON(), nullable=False))
    op.add_column("events", sa.Column("device", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("claimed_at_ms", sa.BigInteger(), nullable=True))
    op.create_index(
        "events_study_sessions",
        "events",
        ["account", "occurred_at_ms"],
        postgresql_where=sa.text("type = 'session'"),
    )
    op.create_table_comment(
        "events",
        f"{EVENTS}; what each added to which total, and, where its time was moved, the one that the device claimed. The service may neither change nor delete them.",
        existing_comment=f"{EVENTS}.",
    )


def _extend_devices() -> None:
    op.add_column("devices", sa.Column("cursor_seq", sa.BigInteger(), nullable=True))
    op.add_column("devices", sa.Column("pending", sa.Integer(), nullable=True))
    op.add_column("devices", sa.Column("told_at_ms", sa.BigInteger(), nullable=True))
    op.create_table_comment(
        "devices",
        f"{DEVICES}, the last mutation accepted from each, and what each said last of itself, and when: where its copy stands, and how many mutations wait on it.",
        existing_comment=f"{DEVICES}, and the last mutation accepted from each.",
    )


def downgrade() -> None:
    for table in (
        "imports",
        "presence",
        "processes",
        "rejections",
        "secrets",
        "boards",
        "standings",
    ):
        op.drop_table(table)
    op.drop_constraint(op.f("levels_version_fkey"), "levels", type_="foreignkey")
    op.drop_table("catalogues")
    op.create_table_comment("devices", f"{DEVICES}, and the last mutation accepted from each.")
    op.drop_column("devices", "told_at_ms")
    op.drop_column("devices", "pending")
    op.drop_column("devices", "cursor_seq")
    op.create_table_comment("events", f"{EVENTS}.")
    op.drop_index("events_study_sessions", table_name="events")
    op.drop_column("events", "claimed_at_ms")
    op.drop_column("events", "device")
    op.drop_column("events", "effects")
