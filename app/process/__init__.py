"""One running program: how it is composed, starts, logs, drains and ends."""
