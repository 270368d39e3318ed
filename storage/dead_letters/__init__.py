"""Dead letters, their archive, and replay plans in the database."""
