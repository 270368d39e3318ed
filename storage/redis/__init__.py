"""Clients, scripts and locks of Redis, and the fixes for its refusals."""
