"""Handlers of a team in processes of their own, with their own interpreter: see couturecast_handlers.py."""
