"""Makes the pictures of the documentation from a living system in which something is wrong."""
