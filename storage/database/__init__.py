"""Connections to Postgres or SQLite, the tables and their migrations."""
