"""Modal screens; each returns what the operator chose."""
