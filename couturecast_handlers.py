"""What handlers import of the appliance.

Runs in the interpreter of a team: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

__all__ = ["PermanentError"]


class PermanentError(Exception):
    """A handler raises it when another attempt cannot help: the job becomes a dead letter at once."""
