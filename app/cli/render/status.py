"""All that the overview shows, as tables for the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.text import Text

from app.cli.render.tables import STYLES, plain, table, terminal_width
from app.cli.render.workers import workers_table
from tui.text import queues as queue_text
from tui.text.alerts import alert_lines
from tui.text.events import event_lines
from tui.text.format import MISSING, byte_size, clock_time, count, escape, long_duration, percent, sparkline
from tui.text.groups import groups_title, pairs
from tui.text.snapshot import living_workers, other_workers, releases
from tui.text.snapshot import verdict as whole_verdict
from tui.text.styles import BREACH, MUTED, OK, WATCH
from tui.text.verdict import Verdict, queue_verdict
from tui.text.words import error_line
from workers.monitoring.snapshot import QueueSnapshot, RedisSnapshot, Snapshot
from workers.operations.worker_list import list_workers
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.operations import Event, FailureGroup

_ONE_TABLE_WIDTH = 150
"""Columns from which the queues are one table: below they are two, since nothing is left out here."""
_NO_LIMIT = 10_000
"""Columns of a file or a pipe."""
MAX_GROUPS, MAX_EVENTS = 5, 5
_TREND_CELLS = 12
_GAP_COLUMNS = 3
"""Spaces before the state of a queue."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A snapshot, and what the database has of the last day: None if that was not read."""

    snapshot: Snapshot
    groups: Sequence[FailureGroup] | None = None
    events: Sequence[Event] | None = None
    error: str | None = None
    """Why the snapshot is old."""
    age: float | None = None
    """Seconds since Redis was last read."""


_ONLY_FOR_SCREENS = (
    "refusal",
    "refusal_detail",
    "timed_out",
    "refuses_writes",
    "nearly_full",
    "name",
    "subject",
)
"""Fields of a `RedisSnapshot`."""


def status_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return the snapshot for ``--json``, without what only screens need of Redis."""
    document = asdict(snapshot)
    for redis in (document["redis"], *document["other_redises"]):
        for name in _ONLY_FOR_SCREENS:
            del redis[name]
    if not snapshot.other_redises:
        del document["redis"]["queues"]
    for queue in document["queues"]:
        del queue["recent_depths"]
    document["queues"] = [
        # Old figures would pass for new ones.
        queue
        if queue["redis_error"] is None
        else {name: queue[name] for name in ("name", "function", "redis_error")}
        for queue in document["queues"]
    ]
    return document


def status_text(overview: Overview) -> str:
    """Return the tables for standard output: with colours and cut to its width if that is a terminal."""
    width = terminal_width()
    parts = status_parts(overview, width=width)
    if width is None:
        return plain(*parts)
    console = Console(theme=STYLES, highlight=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get().rstrip("\n")


def status_parts(overview: Overview, *, width: int | None) -> Iterator[RenderableType]:
    """Yield verdict, servers, and a table each of queues, alerts, dead letters, workers and events."""
    snapshot = overview.snapshot
    yield _verdict(overview)
    yield _cluster(snapshot)
    yield _servers(overview)
    yield from _title("Queues", width)
    yield from _queues(snapshot, width)
    if snapshot.alerts:
        yield from _title("Alerts", width)
        for alert in snapshot.alerts:
            yield from alert_lines(alert, snapshot.taken_at)
    yield from _title("Dead letters", width, _letters(overview))
    if overview.groups:
        yield _groups(overview.groups, snapshot.taken_at)
    yield from _title("Workers", width, "" if snapshot.workers else "none")
    if snapshot.workers:
        yield workers_table(list_workers(snapshot.workers, snapshot.queues), width=width, ids=False)
    if overview.events:
        yield from _title("Events", width)
        yield event_lines(overview.events, snapshot.taken_at)


def _title(name: str, width: int | None, words: str = "") -> Iterator[Text]:
    text = Text.assemble((name, "bold"), f" · {words}" if words else "", no_wrap=True, overflow="ellipsis")
    if width is not None:
        text.append(" ").append("─" * max(0, width - text.cell_len - 1), "rule")
    yield Text()
    yield text


def _verdict(overview: Overview) -> Text:
    snapshot = overview.snapshot
    problem = overview.error or (snapshot.redis.error if snapshot.is_old else None)
    if problem is not None:
        age = f", figures are {long_duration(overview.age)} old" if overview.age is not None else ""
        return Text(f" ▲ Redis does not answer{age}: {escape(problem)}", BREACH)
    worst, others = whole_verdict(snapshot)
    return worst.append(" ·").append_text(others) if others else worst


def _cluster(snapshot: Snapshot) -> Text:
    workers = f"{plural(living_workers(snapshot), 'worker')}{other_workers(snapshot)}"
    offline = "weather: offline" if snapshot.weather_provider == "offline" else ""
    words = (
        escape(snapshot.environment),
        releases(snapshot),
        workers,
        offline,
        clock_time(snapshot.taken_at),
    )
    return Text(f"   {' · '.join(filter(None, words))}", MUTED)


def _servers(overview: Overview) -> Text:
    redis, database = overview.snapshot.redis, overview.snapshot.database
    problem = _problem_of(redis) or overview.error
    text = Text("   redis ", MUTED)
    text.append(*(("ok", OK) if problem is None else (escape(problem), BREACH)))
    text.append(f" · {_memory(redis)} · database ")
    problem = database.error or database.refuses_writes
    text.append(*(("ok", OK) if problem is None else (escape(problem), BREACH)))
    for other in overview.snapshot.other_redises:
        problem = _problem_of(other)
        text.append(f"\n   {other.name[0].lower()}{other.name[1:]} ", MUTED)
        text.append(*(("ok", OK) if problem is None else (escape(problem), BREACH)))
        text.append(f" · {_memory(other)}")
    return text


def _problem_of(redis: RedisSnapshot) -> str | None:
    """Return why it cannot be used, to follow its name."""
    return redis.refusal_detail or redis.error or redis.refuses_writes


def _memory(redis: RedisSnapshot) -> str:
    used, limit = redis.memory_used, redis.memory_limit
    if used is None or not limit:
        return byte_size(used)
    return f"{byte_size(used)} of {byte_size(limit)} ({percent(used / limit, 0)})"


def _queues(snapshot: Snapshot, width: int | None) -> Iterator[Text]:
    width = _NO_LIMIT if width is None else width
    whole = queue_text.columns(width) if width >= _ONE_TABLE_WIDTH else None
    yield queue_text.heading_of(whole or queue_text.STATE_COLUMNS)
    for queue, verdict in _verdicts(snapshot):
        row = queue_text.row_of(queue, verdict, snapshot.alerts, whole or queue_text.STATE_COLUMNS)
        words = queue_text.state_words(queue, verdict, offline=snapshot.weather_provider == "offline")
        if row.cell_len + len(words) + _GAP_COLUMNS <= width:
            yield row.append(" " * _GAP_COLUMNS if words else "").append(words, verdict.style)
        else:
            yield from (row, Text(f"{' ' * _GAP_COLUMNS}{words}", verdict.style))
    if whole is None:
        yield queue_text.heading_of(queue_text.TIMES_COLUMNS)
        for queue, verdict in _verdicts(snapshot):
            yield queue_text.row_of(queue, verdict, snapshot.alerts, queue_text.TIMES_COLUMNS)


def _verdicts(snapshot: Snapshot) -> Iterator[tuple[QueueSnapshot, Verdict]]:
    for queue in snapshot.queues:
        yield queue, queue_verdict(queue, snapshot.alerts, snapshot.taken_at, snapshot.workers)


def _letters(overview: Overview) -> str:
    snapshot = overview.snapshot
    parts = [MISSING if snapshot.dead_letters is None else f"{count(snapshot.dead_letters)} dead"]
    if overview.groups is not None:
        parts.append(groups_title(overview.groups, MAX_GROUPS))
    if snapshot.letters_waiting:
        parts.append(f"{count(snapshot.letters_waiting)} wait for the database")
    return " · ".join(parts)


def _groups(groups: Sequence[FailureGroup], now: float) -> RenderableType:
    rows = []
    for group in groups:
        sample = group.sample
        error = error_line(sample.error_type, sample.error_message)
        rows.append(
            (
                f" {count(group.count)}",
                Text(escape(sample.function), MUTED),
                error,
                f"{long_duration(max(0.0, now - group.last_at.timestamp()))} ago",
                Text(sparkline(pairs(group.trend), _TREND_CELLS), WATCH),
            )
        )
    return table(("", "function", "error", "last", "trend"), rows, right=("", "last"), shrink=("error",))
