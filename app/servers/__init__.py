"""The servers that a start needs: the embedded Valkey, Redis, the database."""
