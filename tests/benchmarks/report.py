"""Medians, ratios, and the Markdown table that is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.measurement import Figure
from tests.benchmarks.peer import BULLMQ, OURS, SAQ, Peer

_RATIOS = (SAQ, BULLMQ)


@dataclass(frozen=True)
class Row:
    """A figure with the values of all runs, by peer."""

    figure: Figure
    values: Mapping[Peer, Sequence[float]]

    def ratio(self, peer: Peer) -> float | None:
        """Our median as a multiple of the peer's; None where one of the two is not known."""
        ours, theirs = self.values.get(OURS), self.values.get(peer)
        if not ours or not theirs or not median(theirs):
            return None
        return median(ours) / median(theirs)


def report(rows: Sequence[Row], peers: Sequence[Peer]) -> str:
    """A table of what we have in common with the peers, and one of what is ours alone."""
    common = [row for row in rows if set(row.values) - {OURS}]
    alone = [row for row in rows if not set(row.values) - {OURS}]
    return "\n\n".join(_table(part, among) for part, among in ((common, peers), (alone, [OURS])) if part)


def _table(rows: Sequence[Row], peers: Sequence[Peer]) -> str:
    """One line a row: each peer's median with the range of its runs, our multiple of it, the goal."""
    compared = [peer for peer in _RATIOS if peer in peers and OURS in peers]
    head = ["", *(peer.title for peer in peers), *(f"ours / {peer.title}" for peer in compared), "to reach"]
    lines = [
        [
            row.figure.title,
            *(_cell(row.values.get(peer, ()), row.figure.digits) for peer in peers),
            *(_times(row.ratio(peer)) for peer in compared),
            row.figure.goal,
        ]
        for row in rows
    ]
    return "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *lines))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low}–{high})"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
