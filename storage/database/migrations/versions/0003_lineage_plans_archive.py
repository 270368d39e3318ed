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
INDEXES = {
    "newest": ["state", "failed_at", "id", "fingerprint", "deaths"],
    "queue": ["queue_name", "state", "failed_at", "id", "fingerprint", "deaths", "function"],
    "function": ["function", "state", "failed_at", "id", "fingerprint", "deaths"],
    "group": ["state", "fingerprint", "failed_at", "id", "deaths"],
    "root": ["root_id"],
}

# The search: triggers keep, for each table of letters, a table of the columns that never change.
# On SQLite it finds any text of three characters or more.  ``args`` has a line for each scalar argument,
# ``name=value``, with a line end before and after it, as in `storage.dead_letters.search`.  It is empty for a
# job that is not JSON.
SEARCHED = r"""
    {row}.id, {row}.error_type || ': ' || {row}.error_message,
    (SELECT char(10) || group_concat(
       replace(replace(replace(key, '\', '\\'), char(10), '\n'), '=', '\=') || '=' ||
       CASE WHEN type IN ('true', 'false', 'null') THEN type
       ELSE replace(replace(value, '\', '\\'), char(10), '\n') END, char(10)
     ) || char(10)
     FROM json_each({job}, '$.kwargs')
     WHERE json_type({job}, '$.kwargs') = 'object'
     AND type NOT IN ('object', 'array') AND length(key) <= 200 AND length(coalesce(value, '')) <= 200),
    {row}.queue_name, {row}.function, {row}.fingerprint, {row}.failed_at, {row}.deaths""".replace(
    "{job}", "CASE WHEN json_valid({row}.job_data) THEN {row}.job_data ELSE 'null' END"
)
COLUMNS = "error, args, queue_name, function, fingerprint, failed_at, deaths"
SEARCH_OF_SQLITE = (
    "CREATE VIRTUAL TABLE {table}_text USING fts5(error, args, queue_name, function, fingerprint, "
    "failed_at UNINDEXED, deaths UNINDEXED, tokenize='trigram')",
    "CREATE TRIGGER {table}_text_in AFTER INSERT ON {table} BEGIN"
    "  INSERT INTO {table}_text(rowid, {columns}) SELECT " + SEARCHED.replace("{row}", "new") + "; END",
    "CREATE TRIGGER {table}_text_out AFTER DELETE ON {table} BEGIN"
    "  DELETE FROM {table}_text WHERE rowid = old.id; END",
    "INSERT INTO {table}_text(rowid, {columns}) SELECT {searched} FROM {table}".replace(
        "{searched}", SEARCHED.replace("{row}", "{table}")
    ),
)

# On Postgres ``error`` is in small letters, and ``args`` has a text for each scalar argument, ``name=value``.
FILL_ON_POSTGRES = r"""
    INSERT INTO {table}_text (id, {columns})
    SELECT id, lower(error_type || ': ' || error_message), ARRAY(
      SELECT replace(replace(key, '\', '\\'), '=', '\=') || '=' || coalesce(value #>> '{{}}', 'null')
      FROM jsonb_each(CASE jsonb_typeof(job_data -> 'kwargs') WHEN 'object' THEN job_data -> 'kwargs' END)
      WHERE jsonb_typeof(value) NOT IN ('object', 'array')
      AND length(key) <= 200 AND length(coalesce(value #>> '{{}}', '')) <= 200
    ), queue_name, function, fingerprint, failed_at, deaths FROM {source}"""
SEARCH_OF_POSTGRES = (
    "CREATE TABLE {table}_text (id bigint PRIMARY KEY, queue_name text NOT NULL, function text NOT NULL, "
    "fingerprint text NOT NULL, failed_at timestamptz NOT NULL, deaths integer NOT NULL, "
    "error text NOT NULL, args text[] NOT NULL)",
    FILL_ON_POSTGRES.replace("{source}", "{table}"),
    "CREATE INDEX ix_{table}_args ON {table}_text USING gin (args)",
    "CREATE FUNCTION {table}_text_in() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    + FILL_ON_POSTGRES.replace("{source}", "fresh")
    + "; RETURN NULL; END $$",
    "CREATE FUNCTION {table}_text_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "DELETE FROM {table}_text USING gone WHERE {table}_text.id = gone.id; RETURN NULL; END $$",
    "CREATE TRIGGER {table}_text_in AFTER INSERT ON {table} REFERENCING NEW TABLE AS fresh "
    "FOR EACH STATEMENT EXECUTE FUNCTION {table}_text_in()",
    "CREATE TRIGGER {table}_text_out AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone "
    "FOR EACH STATEMENT EXECUTE FUNCTION {table}_text_out()",
)
TRIGRAMS = "CREATE INDEX ix_{table}_error ON {table}_text USING gin (error gin_trgm_ops)"


SHORTENED = ("queue_name", "function", "fingerprint", "error_type")
LONGEST = 200  # characters of each of these, as `storage.dead_letters.rows` records them


def upgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    for name in ("fingerprint", "queue", "newest"):
        op.drop_index(f"ix_{LIVING}_{name}", LIVING)
    _shorten()
    if postgres:
        op.add_column(LIVING, sa.Column("root_id", sa.BigInteger))
        op.add_column(LIVING, sa.Column("deaths", sa.Integer, nullable=False, server_default="1"))
    else:  # SQLite gives an id again, unless the table is made so that it does not
        with op.batch_alter_table(
            LIVING, recreate="always", table_kwargs={"sqlite_autoincrement": True}
        ) as letters:
            letters.add_column(sa.Column("root_id", sa.BigInteger))
            letters.add_column(sa.Column("deaths", sa.Integer, nullable=False, server_default="1"))
    _create_archive()
    for table in (LIVING, ARCHIVE):
        for name, columns in INDEXES.items():
            op.create_index(f"ix_{table}_{name}", table, columns)
        poison = sa.text("deaths >= 3")
        op.create_index(
            f"ix_{table}_poison",
            table,
            ["state", "failed_at", "id"],
            postgresql_where=poison,
            sqlite_where=poison,
        )
    _create_plans()
    search: tuple[str, ...] = SEARCH_OF_SQLITE
    if postgres:
        search = (*SEARCH_OF_POSTGRES, *([TRIGRAMS] if _has_trigrams() else []))
    for table in (LIVING, ARCHIVE):
        for statement in search:
            op.get_bind().exec_driver_sql(statement.format(table=table, columns=COLUMNS))


def _shorten() -> None:
    """Cut texts that were recorded whole and that the indexes would refuse; the job keeps them."""
    letters = sa.table(LIVING, *(sa.column(name, sa.Text) for name in SHORTENED))
    for name in SHORTENED:
        c = letters.c[name]
        short = sa.func.substr(c, 1, LONGEST - 1).concat("…")
        op.execute(letters.update().where(sa.func.length(c) > LONGEST).values({name: short}))


def _has_trigrams() -> bool:
    """Return whether Postgres lets us have pg_trgm.

    Without it the search reads the errors, which are short.
    """
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
    op.create_index(f"ix_{ARCHIVE}_all", ARCHIVE, ["failed_at", "id"])


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
        for trigger in ("in", "out"):
            op.execute(f"DROP TRIGGER {table}_text_{trigger}" + (f" ON {table}" if postgres else ""))
            if postgres:
                op.execute(f"DROP FUNCTION {table}_text_{trigger}")
        op.execute(f"DROP TABLE {table}_text")
    for table in ("replays", "replay_plans", ARCHIVE):
        op.drop_table(table)
    for name in (*INDEXES, "poison"):
        op.drop_index(f"ix_{LIVING}_{name}", LIVING)
    with op.batch_alter_table(LIVING) as letters:
        letters.drop_column("root_id")
        letters.drop_column("deaths")
    op.create_index("ix_job_failures_newest", LIVING, ["state", "failed_at", "id"])
    op.create_index("ix_job_failures_queue", LIVING, ["queue_name", "state", "failed_at", "id"])
    op.create_index("ix_job_failures_fingerprint", LIVING, ["fingerprint", "state", "failed_at", "id"])
