"""Weather of a location."""
