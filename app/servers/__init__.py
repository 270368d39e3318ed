"""What a start needs of its servers: the embedded Valkey, Redis, the database."""
