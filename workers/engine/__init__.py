"""Moves jobs: takes, runs, retries, buries and repairs them."""
