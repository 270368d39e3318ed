"""Events, and the drains that are under way."""
