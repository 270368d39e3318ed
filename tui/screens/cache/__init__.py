"""The cache's entries."""
