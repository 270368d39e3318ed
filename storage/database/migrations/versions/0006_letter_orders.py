"""The indexes of queues and functions begin with the state, so that they also sort the letters of a state."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LETTER_TABLES = ("job_failures", "job_failures_archive")
COLUMNS = {
    "queue": ("queue_name", ("failed_at", "id", "fingerprint", "deaths", "function")),
    "function": ("function", ("failed_at", "id", "fingerprint", "deaths")),
}


def upgrade() -> None:
    for table in LETTER_TABLES:
        for index, (column, others) in COLUMNS.items():
            op.drop_index(f"ix_{table}_{index}", table)
            op.create_index(f"ix_{table}_{index}", table, ["state", column, *others])


def downgrade() -> None:
    for table in LETTER_TABLES:
        for index, (column, others) in COLUMNS.items():
            op.drop_index(f"ix_{table}_{index}", table)
            op.create_index(f"ix_{table}_{index}", table, [column, "state", *others])
