"""Replays of dead letters by plan: what is next (pure), how fast, and the process that does it."""
