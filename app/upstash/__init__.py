"""Manages the databases at Upstash: `spec` says which should exist, `api` which do, `diff` what to change."""
