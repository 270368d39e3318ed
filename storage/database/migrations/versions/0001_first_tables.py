"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "job_failures",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("queue_name", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("function", sa.Text, nullable=False),
        sa.Column("job_data", JSON, nullable=False),
        sa.Column("error_type", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("traceback", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("attempt_errors", JSON, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("enqueued_at", TIME),
        sa.Column("failed_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="dead"),
        sa.Column("replay_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("replayed_at", TIME),
        sa.Column("replay_of", sa.BigInteger),
        sa.UniqueConstraint("uid", name="uq_job_failures_uid"),
    )
    op.create_index("ix_job_failures_newest", "job_failures", ["state", "failed_at", "id"])
    op.create_index("ix_job_failures_queue", "job_failures", ["queue_name", "state", "failed_at", "id"])
    op.create_index(
        "ix_job_failures_fingerprint", "job_failures", ["fingerprint", "state", "failed_at", "id"]
    )
    op.create_index("ix_job_failures_all", "job_failures", ["failed_at", "id"])
    op.create_table(
        "locations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("lat", sa.Float, nullable=False),
        sa.Column("lon", sa.Float, nullable=False),
    )
    op.create_table(
        "weather",
        sa.Column("location_id", sa.Text, primary_key=True),
        sa.Column("time_block", TIME, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("current", JSON, nullable=False),
        sa.Column("forecast", JSON, nullable=False),
        sa.Column("fetched_at", TIME, nullable=False),
    )
    op.create_table(
        "alert_subscribers",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("location_id", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("url", sa.Text),
    )
    op.create_index("ix_alert_subscribers_location", "alert_subscribers", ["location_id"])
    op.create_table(
        "alert_deliveries",
        sa.Column("alert_id", sa.Text, primary_key=True),
        sa.Column("subscriber_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("delivered_at", TIME),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text),
    )
    op.create_table(
        "garment_palettes",
        sa.Column("item_id", sa.Text, primary_key=True),
        sa.Column("palette", JSON, nullable=False),
        sa.Column("extracted_at", TIME, nullable=False),
    )
    op.create_table(
        "moderation_decisions",
        sa.Column("content_id", sa.Text, primary_key=True),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("reasons", JSON, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_at", TIME, nullable=False),
    )


def downgrade() -> None:
    for table in (
        "moderation_decisions",
        "garment_palettes",
        "alert_deliveries",
        "alert_subscribers",
        "weather",
        "locations",
        "job_failures",
    ):
        op.drop_table(table)
