"""The reason of an acknowledgement stands with its alert."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("acknowledge_reason", sa.Text))


def downgrade() -> None:
    op.drop_column("alerts", "acknowledge_reason")
