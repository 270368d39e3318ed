"""Each alert has its section in the runbook."""

from __future__ import annotations

import re
from pathlib import Path

from workers.monitoring.alert_rules import RULES

RUNBOOK = Path(__file__).parents[4] / "docs" / "operating.md"


def test_each_alert_has_its_section_in_the_order_of_the_table() -> None:
    text = RUNBOOK.read_text()
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [rule.name for rule in RULES]
    for section in re.split(r"^## \w+$", text, flags=re.MULTILINE)[1:]:
        assert "**Meaning.**" in section
        assert "**Keys.**" in section
        assert "**Over when**" in section or "information" in section
