"""Names of the styles of texts, by meaning: the theme gives them their colours.

`WIDE_COLUMNS` is the width from which tables show everything.
"""

OK = "ok"
WATCH = "watch"
"""Breached, not for long enough yet; or something that an operator should see."""
BREACH = "breach"
PAUSED = "paused"
MUTED = "muted"
ACCENT = "accent"
RULE = "rule"
"""Lines that carry no text."""
MARK = "■"
"""The sign of a row to which the next action applies; ``●`` is for what runs."""
WIDE_COLUMNS = 112
"""Columns of a terminal from which tables show everything."""
