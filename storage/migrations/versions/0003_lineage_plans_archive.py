"""Lineage, plans, the archive, and the search in errors and arguments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")
BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

LIVING, ARCHIVE = "job_failures", "job_failures_archive"
OLD_INDEXES = {"newest": ["state", "failed_at", "id"], "all": ["failed_at", "id"]}
NEW_INDEXES = {
    "queue": ["queue_name", "state", "failed_at", "id", "fingerprint"],
    "function": ["function", "state", "failed_at", "id", "fingerprint"],
    "group": ["state", "fingerprint", "failed_at", "id"],
    "root": ["root_id"],
}

# SQLite: an FTS5 table beside the letters, kept by triggers, that finds any text of three characters or more.
# ``args`` has a line for each scalar argument, ``name=value``, with a line end before and after it.
SEARCHED = """
    {row}.id, {row}.error_type || ': ' || {row}.error_message,
    (SELECT char(10) || group_concat(
       key || '=' || CASE WHEN type IN ('true', 'false', 'null') THEN type ELSE value END, char(10)
     ) || char(10)
     FROM json_each({row}.job_data, '$.kwargs')
     WHERE type NOT IN ('object', 'array') AND length(coalesce(value, '')) <= 200)"""
SEARCH_OF_SQLITE = (
    "CREATE VIRTUAL TABLE {table}_text USING fts5(error, args, tokenize='trigram')",
    "CREATE TRIGGER {table}_text_in AFTER INSERT ON {table} BEGIN"
    "  INSERT INTO {table}_text(rowid, error, args) SELECT " + SEARCHED.replace("{row}", "new") + "; END",
    "CREATE TRIGGER {table}_text_out AFTER DELETE ON {table} BEGIN"
    "  DELETE FROM {table}_text WHERE rowid = old.id; END",
    "INSERT INTO {table}_text(rowid, error, args) SELECT {searched} FROM {table}".replace(
        "{searched}", SEARCHED.replace("{row}", "{table}")
    ),
)


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    op.drop_index("ix_job_failures_fingerprint", LIVING)
    op.drop_index("ix_job_failures_queue", LIVING)
    if postgres:
        op.add_column(LIVING, sa.Column("root_id", sa.BigInteger))
        op.add_column(LIVING, sa.Column("deaths", sa.Integer, nullable=False, server_default="1"))
    else:  # SQLite gives an id again, unless the table is made so that it does not
        with op.batch_alter_table(
            LIVING, recreate="always", table_kwargs={"sqlite_autoincrement": True}
        ) as letters:
            letters.add_column(sa.Column("root_id", sa.BigInteger))
            letters.add_column(sa.Column("deaths", sa.Integer, nullable=False, server_default="1"))
    for name, columns in NEW_INDEXES.items():
        op.create_index(f"ix_{LIVING}_{name}", LIVING, columns)
    _create_archive()
    for table in (LIVING, ARCHIVE):
        poison = sa.text("deaths >= 3")
        op.create_index(
            f"ix_{table}_poison",
            table,
            ["state", "failed_at", "id"],
            postgresql_where=poison,
            sqlite_where=poison,
        )
    _create_plans()
    trigrams = postgres and _has_trigrams()
    for table in (LIVING, ARCHIVE):
        if trigrams:
            op.execute(
                f"CREATE INDEX ix_{table}_error ON {table} "
                "USING gin ((error_type || ': ' || error_message) gin_trgm_ops)"
            )
        if postgres:
            op.execute(
                f"CREATE INDEX ix_{table}_args ON {table} USING gin ((job_data -> 'kwargs') jsonb_path_ops)"
            )
            continue
        for statement in SEARCH_OF_SQLITE:
            op.get_bind().exec_driver_sql(statement.format(table=table))


def _has_trigrams() -> bool:
    """Whether Postgres lets us have pg_trgm.  Without it the search in errors works too, by reading them."""
    try:
        with op.get_bind().begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except sa.exc.DBAPIError:
        return False
    return True


def _create_archive() -> None:
    op.create_table(
        ARCHIVE,
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
        sa.Column("root_id", sa.BigInteger),
        sa.Column("deaths", sa.Integer, nullable=False, server_default="1"),
        sa.UniqueConstraint("uid", name=f"uq_{ARCHIVE}_uid"),
        sqlite_autoincrement=True,
    )
    for name, columns in (OLD_INDEXES | NEW_INDEXES).items():
        op.create_index(f"ix_{ARCHIVE}_{name}", ARCHIVE, columns)


def _create_plans() -> None:
    op.create_table(
        "replay_plans",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("selection", JSON, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("canary", sa.Integer, nullable=False),
        sa.Column("rate", sa.Float),
        sa.Column("halt", sa.Float, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("ended_at", TIME),
    )
    op.create_table(
        "replays",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("plan_id", sa.BigInteger, nullable=False),
        sa.Column("letter_id", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("note", sa.Text),
        sa.Column("kwargs", JSON),
        sa.Column("enqueued_at", TIME),
        sa.Column("ended_at", TIME),
    )
    op.create_index("ix_replays_plan", "replays", ["plan_id", "state", "id"])
    op.create_index("ix_replays_letter", "replays", ["letter_id", "state"])


def downgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    for table in (LIVING, ARCHIVE):
        if postgres:
            op.execute(f"DROP INDEX IF EXISTS ix_{table}_error")
            op.execute(f"DROP INDEX ix_{table}_args")
        else:
            for trigger in ("in", "out"):
                op.execute(f"DROP TRIGGER {table}_text_{trigger}")
            op.execute(f"DROP TABLE {table}_text")
    for table in ("replays", "replay_plans", ARCHIVE):
        op.drop_table(table)
    for name in (*NEW_INDEXES, "poison"):
        op.drop_index(f"ix_{LIVING}_{name}", LIVING)
    with op.batch_alter_table(LIVING) as letters:
        letters.drop_column("root_id")
        letters.drop_column("deaths")
    op.create_index("ix_job_failures_queue", LIVING, ["queue_name", "state", "failed_at", "id"])
    op.create_index("ix_job_failures_fingerprint", LIVING, ["fingerprint", "state", "failed_at", "id"])
