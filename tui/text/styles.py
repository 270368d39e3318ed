"""Styles of text by meaning, and the width from which tables show everything."""

BAD = "bold red"
WARN = "yellow"
GOOD = "green"
DIM = "dim"
WIDE = 112
"""Columns of a terminal from which tables show everything."""
