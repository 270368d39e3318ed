"""Manages the databases at Upstash: `spec` has the desired, `api` the actual ones, `diff` the changes."""
