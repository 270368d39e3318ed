"""Writes docs/keys.md: ``make keys``."""

from __future__ import annotations

from pathlib import Path

from textual.keys import key_to_character

import tui.app  # noqa: F401 - all classes that have keys
from tui.keymap import key_entries

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
_SIGNS = {"slash": "/"}
_TEXT = """\
# Keys

`?` lists the keys of the screen that is open, `:` or `ctrl+p` finds all that can be done on it by name. `J`
or `ctrl+o` puts a letter on each part of it: that letter goes there. `COUTURECAST_KEYMAP` gives other
keys, by the ids below:

```bash
COUTURECAST_KEYMAP='app.quit=ctrl+q,jobs.abort=X,jobs.remove=x' couturecast-tui
```

An id that comes twice has both keys. A key is a character, or a name as `f5`, `space`, `comma`,
`question_mark`, `ctrl+x`. Footer, help, palette and hints show the keys as they are mapped. An id that does
not exist, a key that does not exist, and a key that would mean two things on one screen end the start with
one line. Keys that only move the cursor have no id.

| id | keys | |
|---|---|---|
"""


def keys_page() -> str:
    """The page as it should be."""
    rows = [
        f"| `{entry.id}` | {' '.join(f'`{_shown(key)}`' for key in entry.keys)} | {entry.sentence} |\n"
        for entry in key_entries()
    ]
    return _TEXT + "".join(rows)


def _shown(key: str) -> str:
    character = key_to_character(key) or _SIGNS.get(key, "")
    return character if character.strip() and character.isprintable() else key


if __name__ == "__main__":
    PAGE.write_text(keys_page(), encoding="utf-8")
