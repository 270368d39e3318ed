"""Entry of ``couturecast-tui``.  Imports next to nothing: a ctrl-C during the start may come here."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Put the program's packages first on the path, and run it."""
    add_packages()
    from app.entry import main as run

    run()


def add_packages() -> None:
    """Make the program's packages importable, before those of the same name that others have."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "_bundle")
    sys.path.insert(0, installed if os.path.isdir(installed) else os.path.dirname(here))
