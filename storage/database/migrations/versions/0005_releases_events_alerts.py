"""The release of dead letters; events; the life of alerts, and their silences."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

LETTER_TABLES = ("job_failures", "job_failures_archive")


def upgrade() -> None:
    for table in LETTER_TABLES:
        op.add_column(table, sa.Column("release", sa.Text))
        op.create_index(f"ix_{table}_release", table, ["fingerprint", "release", "id"])
    _create_events()
    _create_alerts()
    _create_silences()


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("queue", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("actor", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("dedupe", sa.Text),
        sa.UniqueConstraint("dedupe", name="uq_events_dedupe"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_newest", "events", ["at", "id"])
    op.create_index("ix_events_kind", "events", ["kind", "at", "id"])
    op.create_index("ix_events_queue", "events", ["queue", "at", "id"])


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("alert", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False, server_default=""),
        sa.Column("subject", sa.Text, nullable=False, server_default=""),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("fired_at", TIME, nullable=False),
        sa.Column("resolved_at", TIME),
        sa.Column("value", sa.Float),
        sa.Column("peak", sa.Float),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("acknowledged_by", sa.Text),
        sa.Column("acknowledged_at", TIME),
        sa.Column("silenced_by", sa.Text),
        sa.Column("silenced_until", TIME),
        sa.Column("silence_reason", sa.Text),
        sa.Column("notified", JSON, nullable=False),
    )
    is_open = sa.text("resolved_at IS NULL")
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["alert", "queue", "subject"],
        unique=True,
        postgresql_where=is_open,
        sqlite_where=is_open,
    )
    op.create_index("ix_alerts_newest", "alerts", ["fired_at", "id"])


def _create_silences() -> None:
    op.create_table(
        "silences",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("alert", sa.Text),
        sa.Column("queue", sa.Text),
        sa.Column("until", TIME, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
    )
    op.create_index("ix_silences_until", "silences", ["until"])


def downgrade() -> None:
    for table in ("silences", "alerts", "events"):
        op.drop_table(table)
    for table in LETTER_TABLES:
        op.drop_index(f"ix_{table}_release", table)
        op.drop_column(table, "release")
