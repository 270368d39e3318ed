"""The handlers: one a queue, what they share, and their process pool."""
