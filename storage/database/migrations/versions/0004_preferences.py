"""Preferences of users; on Postgres, word of what changes in what is cached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Each statement that changes a table behind cached values notifies whose entries are outdated:
# ``user:<id>``, ``location:<id>``, or ``all`` if they are too many or an id is too long for a payload.
# An error of the notification must not fail the statement: entries expire by themselves.
# EXECUTE is needed, since the trigger names the column.  An UPDATE has two triggers, for the ids before and
# after; Postgres sends equal notifications of a transaction once.  None is sent if the server's queue of
# notifications is half full, because a transaction that finds it full fails.
CHANGED = """
CREATE FUNCTION couturecast_cache_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  subjects text[] := ARRAY['all'];
BEGIN
  IF pg_notification_queue_usage() > 0.5 THEN
    RETURN NULL;
  END IF;
  IF TG_OP <> 'TRUNCATE' THEN
    EXECUTE format('SELECT array_agg(%L || id) FROM '
      '(SELECT DISTINCT %I::text AS id FROM touched LIMIT 1001) AS few', TG_ARGV[0] || ':', TG_ARGV[1])
      INTO subjects;
  END IF;
  IF cardinality(subjects) > 1000 THEN
    subjects := ARRAY['all'];
  END IF;
  PERFORM pg_notify('couturecast_cache', CASE WHEN octet_length(subject) > 7900 THEN 'all' ELSE subject END)
    FROM unnest(subjects) AS subject;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'couturecast: a change was not told to the cache: %', SQLERRM;
  RETURN NULL;
END $$"""
WATCHED = {"user_preferences": ("user", "user_id"), "weather": ("location", "location_id")}
EVENTS = {
    "inserted": "INSERT ON {table} REFERENCING NEW TABLE AS touched",
    "updated_from": "UPDATE ON {table} REFERENCING OLD TABLE AS touched",
    "updated_to": "UPDATE ON {table} REFERENCING NEW TABLE AS touched",
    "deleted": "DELETE ON {table} REFERENCING OLD TABLE AS touched",
    "truncated": "TRUNCATE ON {table}",
}


def upgrade() -> None:
    op.create_table(
        "user_preferences",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("preferences", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(CHANGED)
        for table, (kind, column) in WATCHED.items():
            for name, event in EVENTS.items():
                op.get_bind().exec_driver_sql(
                    f"CREATE TRIGGER {table}_{name} AFTER {event.format(table=table)} FOR EACH STATEMENT "
                    f"EXECUTE FUNCTION couturecast_cache_changed('{kind}', '{column}')"
                )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION couturecast_cache_changed CASCADE")  # and the triggers with it
    op.drop_table("user_preferences")
