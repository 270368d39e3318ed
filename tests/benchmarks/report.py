"""Medians, ratios, and the Markdown table that is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.measurement import Figure
from tests.benchmarks.peer import BULLMQ, BULLMQ_ON_BUN, OURS, SAQ, Peer

Row = Mapping[Peer, Sequence[float]]
"""The values of one figure, by peer: one a run."""

_RATIOS = (SAQ, BULLMQ, BULLMQ_ON_BUN)


@dataclass
class Results:
    """What was measured so far, and what went wrong."""

    values: dict[Figure, dict[Peer, list[float]]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def add(self, figure: Figure, peer: Peer, value: float) -> None:
        """Note the value of one run."""
        self.values.setdefault(figure, {}).setdefault(peer, []).append(value)


def report(results: Results, peers: Sequence[Peer]) -> str:
    """A table of what we have in common with the peers, and one of what is ours alone."""
    common = {figure: row for figure, row in results.values.items() if set(row) - {OURS}}
    alone = {figure: row for figure, row in results.values.items() if not set(row) - {OURS}}
    return "\n\n".join(_table(part, among) for part, among in ((common, peers), (alone, [OURS])) if part)


def _table(rows: Mapping[Figure, Row], peers: Sequence[Peer]) -> str:
    """One line a figure: each peer's median with the range of its runs, our multiple of it, the goal."""
    compared = [peer for peer in _RATIOS if peer in peers and OURS in peers]
    head = ["", *(peer.title for peer in peers), *(f"ours / {peer.title}" for peer in compared), "to reach"]
    lines = [
        [
            figure.title,
            *(_cell(row.get(peer, ()), figure.digits) for peer in peers),
            *(_ratio(row, peer) for peer in compared),
            figure.goal,
        ]
        for figure, row in rows.items()
    ]
    return "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *lines))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def _ratio(row: Row, peer: Peer) -> str:
    """Our median as a multiple of the peer's; nothing if one of the two is not known."""
    ours, theirs = row.get(OURS), row.get(peer)
    return f"{median(ours) / median(theirs):.2f}" if ours and theirs and median(theirs) else ""
