"""Decisions on user content."""
