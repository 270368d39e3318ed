"""Alerts are a function of the history and the moment, so nothing flaps and everybody finds the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.alerts import NOW, alerts_of, conditions_of, facts
from tests.support.fake_moments import HEALTHY
from workers.engine.histogram import bucket
from workers.engine.history import History, Point, run_buckets
from workers.engine.schedules import Schedule
from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_evaluation import alerts, queue_conditions, schedule_conditions
from workers.monitoring.alert_rules import BY_NAME, DEFAULTS, RULES, Thresholds
from workers.monitoring.breaches import Breach, LatencyReader, depth_breach, failure_breach, find_breach
from workers.monitoring.conditions import Condition
from workers.monitoring.descriptions import describe_limit
from workers.monitoring.snapshot import DatabaseSnapshot, QueueSnapshot, RedisSnapshot, WorkerSnapshot

QUEUE = replace(HEALTHY.queues[0], depth=0, in_flight=0, rate_limit=None, next_start_in=None, paused=None)


def history(points: Sequence[Point]) -> History:
    return History.build(points[:-1], points[-1])


def _depths(depths: Sequence[int], seconds: float = 10.0) -> History:
    first = NOW - seconds * (len(depths) - 1)
    return history([Point(first + seconds * i, depth, 0, {}) for i, depth in enumerate(depths)])


def _outcomes(steps: Sequence[tuple[int, int]], seconds: float = 10.0) -> History:
    """(completed, failed) in each step."""
    completed = failed = 0
    points = []
    for number, (good, bad) in enumerate([*steps, (0, 0)]):
        at = NOW - seconds * (len(steps) - number)
        points.append(Point(at, 0, 0, {"completed": completed, "failed": failed}))
        completed, failed = completed + good, failed + bad
    return history(points)


def _runs(minutes: Sequence[tuple[int, float]]) -> History:
    """(jobs, seconds that each ran) in each minute, up to now."""
    counters: dict[str, int] = {}
    points = []
    start = NOW // 60 * 60 - 60 * len(minutes)
    for number, (jobs, seconds) in enumerate(minutes):
        points.append(Point(start + 60 * number, 0, 0, dict(counters)))
        name = f"r{bucket(seconds)}"
        counters[name] = counters.get(name, 0) + jobs
    return history([*points, Point(NOW // 60 * 60, 0, 0, dict(counters))])


def _slow(runs: History, pinned: float | None = None) -> tuple[float | None, object]:
    return LatencyReader(run_buckets).baseline(runs, [], pinned, (2.0, 1.5, 20))


def _names(found: Sequence[Condition]) -> list[str]:
    return [condition.name for condition in found]


# The table


def test_the_table_is_whole() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.severity in ("critical", "warning", "information")
        assert (rule.limit is None) == (rule.ends_at is None)
        assert rule.limit is None or (rule.ends_at or 0) <= rule.limit
        assert ("{limit}" in rule.breach) == (rule.limit is not None)


def test_a_limit_of_the_settings_counts_for_its_queue_and_moves_the_end() -> None:
    limits = Thresholds({("backlog", None): 200, ("backlog", "color-extraction"): 1000})
    assert (limits.limit("backlog", "weather-ingestion"), limits.ends_at("backlog", "weather-ingestion")) == (
        200,
        160,
    )
    assert limits.limit("backlog", "color-extraction") == 1000
    with pytest.raises(KeyError):
        limits.limit("redis")


# Hysteresis


@given(st.lists(st.integers(0, 200), min_size=1, max_size=60))
def test_a_breach_begins_above_the_limit_and_ends_at_the_lower_one(depths: list[int]) -> None:
    breach = depth_breach(_depths(depths), 100, 80)
    breached = False
    for depth in depths:
        breached = depth > 100 or (breached and depth > 80)
    assert (breach is not None and not breach.has_ended) == breached
    if breached and breach is not None:
        began = round((breach.since - NOW) / 10) + len(depths) - 1
        assert depths[began] > 100
        assert all(depth > 80 for depth in depths[began:])


@given(st.lists(st.integers(81, 100), min_size=1, max_size=50))
def test_nothing_flaps_between_the_two_limits(depths: list[int]) -> None:
    assert depth_breach(_depths([120, *depths]), 100, 80) is not None
    assert depth_breach(_depths([70, *depths]), 100, 80) is None


@pytest.mark.parametrize(
    ("depth", "words"), [(120, "120 queued, limit 100"), (98, "98 queued, limit 100, ends at 80")]
)
def test_a_figure_below_its_limit_that_still_breaches_says_when_it_ends(depth: int, words: str) -> None:
    queue = replace(QUEUE, depth=depth, workers=1)
    (alert,) = alerts(queue_conditions(facts(queue, _depths([120, 110, depth])), DEFAULTS), NOW)
    assert (alert.name, alert.message) == ("backlog", words)
    assert describe_limit(0.049, 0.05, 0.04, "share") == "limit 5 %, ends at 4 %"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=80))
def test_fewer_than_twenty_attempts_are_no_alert(steps: list[tuple[int, int]]) -> None:
    recent = steps[-30:]
    ended = sum(good + bad for good, bad in recent)
    breach = failure_breach(_outcomes(steps), 0.05, 0.04, 20)
    if ended < 20:
        assert breach is None
    elif sum(bad for _, bad in recent) / ended > 0.05:
        assert breach is not None
        assert breach.since <= NOW


def test_an_unknown_figure_ends_a_breach() -> None:
    assert find_breach(iter([(2, None), (1, 9.0)]), 5, 4) == Breach(1, 0.0, has_ended=True)
    assert find_breach(iter([(3, 4.5), (2, None), (1, 9.0)]), 5, 4) is None


def test_a_failing_queue_is_pending_for_a_minute_and_then_fires() -> None:
    for seconds, state in ((30, "pending"), (90, "firing")):
        steps = [(50, 0)] * 40 + [(0, 60)] * (seconds // 10)
        found = queue_conditions(facts(QUEUE, _outcomes(steps)), DEFAULTS)
        (alert,) = (alert for alert in alerts(list(found), NOW) if alert.name == "failing")
        assert alert.state == state


# Slow


def test_a_queue_is_slow_at_twice_its_baseline_which_stays_as_it_was() -> None:
    usual = [(30, 1.0)] * 60
    assert _slow(_runs(usual))[1] is None
    baseline, breach = _slow(_runs([*usual, *[(30, 3.0)] * 30]))
    assert baseline == pytest.approx(1.0, rel=0.2)
    assert breach is not None
    after, breach = _slow(_runs([*usual, *[(30, 3.0)] * 30, *[(30, 1.0)] * 30]))
    assert breach is None
    assert after == pytest.approx(1.0, rel=0.2), "minutes of a breach are not usual"


def test_fast_jobs_few_jobs_and_new_queues_are_not_slow() -> None:
    assert _slow(_runs([*[(30, 0.002)] * 60, *[(30, 0.09)] * 6]))[1] is None, "below 100 ms"
    assert _slow(_runs([*[(30, 1.0)] * 60, *[(3, 9.0)] * 6]))[1] is None, "15 jobs"
    assert _slow(_runs([(30, 9.0)] * 3)) == (None, None), "no baseline yet"


def test_a_pinned_baseline_counts_at_once() -> None:
    baseline, breach = _slow(_runs([(30, 9.0)] * 6), pinned=2.0)
    assert baseline == 2.0
    assert breach is not None


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.01, 0.5, 1.0, 4.0, 30.0])), max_size=120))
def test_a_process_that_has_followed_the_history_and_one_that_starts_agree(
    minutes: list[tuple[int, float]],
) -> None:
    if not minutes:
        return
    follower = LatencyReader(run_buckets)
    whole = _runs(minutes)
    for count in range(1, len(whole.points)):
        part = history(whole.points[: count + 1])
        followed = follower.baseline(part, [], None, (2.0, 1.5, 20))
    assert followed == _slow(whole)


# Stalls


def _worker(**fields: object) -> WorkerSnapshot:
    base = replace(HEALTHY.workers[0], id="w", queues=(QUEUE.name,), state="running", up_for=3600.0)
    return replace(base, **fields)  # type: ignore[arg-type]


READY = replace(QUEUE, depth=3, oldest_age=60.0, workers=1)
LONG_AGO = {"started_at": int((NOW - 60) * 1000), "ended_at": int((NOW - 55) * 1000)}
TURNS = {b"w": (NOW - 1) * 1000}


def test_ready_jobs_that_nothing_forbids_to_start_are_a_stall() -> None:
    found = list(queue_conditions(facts(READY, workers=(_worker(),), totals=LONG_AGO, turns=TURNS), DEFAULTS))
    assert _names(found) == ["stalled"]
    assert found[0].message == "stalled: 3 ready, nothing forbids a start, none for 55 s"
    assert found[0].for_seconds == 10


def test_a_handler_that_cannot_start_stalls_a_queue_with_jobs_though_these_start_and_go_back() -> None:
    broken = replace(READY, handler_problem="its handler cannot run: 'shop:work' cannot be imported")
    just_now = {"started_at": int(NOW * 1000), "ended_at": int(NOW * 1000)}
    known = facts(broken, workers=(_worker(),), totals=just_now, turns=TURNS)
    (found,) = queue_conditions(known, DEFAULTS)
    assert (found.name, found.for_seconds) == ("stalled", 10)
    assert found.message == f"no job can run: {broken.handler_problem}"
    assert list(queue_conditions(replace(known, queue=replace(broken, depth=0)), DEFAULTS)) == []


@pytest.mark.parametrize(
    ("queue", "reply"),
    [
        ({"paused": HEALTHY.queues[0].paused or object()}, {}),
        ({"in_flight": READY.concurrency}, {}),
        ({"next_start_in": 3.0}, {}),
        ({"depth": 0}, {}),
        ({"oldest_age": 1.0}, {}),
        ({}, {"totals": {"started_at": int((NOW - 1) * 1000)}}),
        ({}, {"resumed": str(int((NOW - 1) * 1000)).encode()}),
    ],
)
def test_what_waits_for_a_reason_is_not_stalled(queue: dict[str, object], reply: dict[str, object]) -> None:
    waiting: QueueSnapshot = replace(READY, **queue)  # type: ignore[arg-type]
    known = facts(waiting, workers=(_worker(),), **({"totals": LONG_AGO, "turns": TURNS} | reply))
    assert "stalled" not in _names(list(queue_conditions(known, DEFAULTS)))


def test_a_worker_that_has_just_started_is_given_time() -> None:
    known = facts(READY, workers=(_worker(up_for=0.5),), totals=LONG_AGO)
    assert "stalled" not in _names(list(queue_conditions(known, DEFAULTS)))


def test_one_process_that_takes_nothing_is_named_while_others_work() -> None:
    others = _worker(id="busy", pid=7)
    stuck = _worker(host="box-2", pid=4001)
    totals = {"started_at": int(NOW * 1000)}
    turns = {b"busy": NOW * 1000, b"w": (NOW - 31) * 1000}
    known = facts(READY, workers=(stuck, others), totals=totals, turns=turns)
    (found,) = queue_conditions(known, DEFAULTS)
    assert (found.name, found.subject) == ("stalled", "w")
    assert found.message == "box-2:4001 takes nothing for 31 s, 3 ready"


# The rest


def test_no_worker_fires_sooner_while_jobs_wait() -> None:
    for depth, seconds, state in ((0, 10, "pending"), (0, 16, "firing"), (1, 6, "firing"), (1, 3, "pending")):
        queue = replace(QUEUE, workers=0, depth=depth)
        (condition,) = queue_conditions(facts(queue), DEFAULTS)
        (alert,) = alerts([replace(condition, since=NOW - seconds)], NOW)
        assert (alert.name, alert.state) == ("no_worker", state)


def test_a_duration_of_the_settings_decides_when_a_breach_fires() -> None:
    limits = Thresholds(durations={"no_worker": 60, "backlog": 0})
    for depth, seconds, state in (
        (0, 59, "pending"),
        (0, 60, "firing"),
        (1, 19, "pending"),
        (1, 20, "firing"),
    ):
        (condition,) = queue_conditions(facts(replace(QUEUE, workers=0, depth=depth)), limits)
        (alert,) = alerts([replace(condition, since=NOW - seconds)], NOW, limits)
        assert (alert.name, alert.state) == ("no_worker", state)
    (backlog,) = alerts([Condition("backlog", QUEUE.name, "", NOW)], NOW, limits)
    (failing,) = alerts([Condition("failing", QUEUE.name, "", NOW - 59)], NOW, limits)
    assert (backlog.state, failing.state) == ("firing", "pending")
    assert limits.settings(QUEUE.name) == {"no_worker alert after": 60, "backlog alert after": 0}


def test_what_fires_at_once_fires_though_its_moment_was_written_after_the_state_was_read() -> None:
    (alert,) = alerts([Condition(rules.PLAN_HALTED, None, "halted", NOW + 0.004)], NOW)
    assert alert.state == "firing"


def test_a_backlog_is_as_old_as_the_first_job_too_many() -> None:
    body = f'{{"queued": {int((NOW - 300) * 1000)}}}'.encode()
    queue = replace(QUEUE, depth=500, workers=1)
    (condition,) = queue_conditions(facts(queue, first_excess=body), DEFAULTS)
    assert (condition.name, condition.since, condition.value) == ("backlog", NOW - 300, 500)


@pytest.mark.parametrize(
    ("ago", "since"),
    [
        (900, NOW - 20),  # a clock that is slow, or jobs that waited elsewhere
        (15, NOW - 15),
        (5, NOW - 10),
        (-900, NOW - 10),  # a clock that is fast
    ],
)
def test_a_backlog_is_no_older_than_the_servers_history_whatever_the_clock_of_its_producers(
    ago: float, since: float
) -> None:
    body = f'{{"queued": {int((NOW - ago) * 1000)}}}'.encode()
    queue = replace(QUEUE, depth=500, workers=1)
    (condition,) = queue_conditions(facts(queue, _depths([50, 500, 500]), first_excess=body), DEFAULTS)
    assert (condition.name, condition.since) == ("backlog", since)


def test_a_backlog_counts_from_when_it_is_seen_without_history_and_jobs() -> None:
    queue = replace(QUEUE, depth=500, workers=1)
    body = f'{{"queued": {int((NOW + 900) * 1000)}}}'.encode()
    for known in (facts(queue, first_excess=body), facts(queue)):
        (condition,) = queue_conditions(known, DEFAULTS)
        assert (condition.name, condition.since) == ("backlog", None)


def test_redis_down_is_the_worst_alert() -> None:
    redis = RedisSnapshot("redis://x", "refused", memory_used=9, memory_limit=10)
    found = alerts_of(replace(HEALTHY, queues=(), workers=(), redis=redis))
    assert {alert.name for alert in found} == {"redis", "redis_memory"}
    fires = alerts(
        [replace(c, since=0.0) for c in conditions_of(replace(HEALTHY, queues=(), redis=redis))], NOW
    )
    assert [alert.name for alert in fires] == ["redis", "redis_memory"]


def test_a_refusal_of_redis_is_an_alert_in_its_own_words() -> None:
    redis = RedisSnapshot("redis://x", "Redis is full", refusal_detail="is full (OOM): raise its maxmemory")
    (condition,) = conditions_of(replace(HEALTHY, queues=(), redis=redis))
    assert condition.message == "Redis is full (OOM): raise its maxmemory"


def test_a_database_that_does_not_answer_is_an_alert() -> None:
    database = DatabaseSnapshot("x", "refused")
    (condition,) = conditions_of(replace(HEALTHY, queues=(), database=database))
    assert (condition.name, condition.message) == ("database", "the database does not answer: refused")


def test_every_condition_has_a_rule() -> None:
    names = {name for name in vars(rules) if isinstance(getattr(rules, name), str) and name.isupper()}
    assert {getattr(rules, name) for name in names} == set(BY_NAME)


# Schedules


async def _no_jobs() -> dict[str, dict[str, object]]:
    return {}


@pytest.mark.parametrize(
    ("ran_ago", "past", "missed"),
    [
        (900, 100, False),
        (900, 451, True),
        (0, 800, False),
        (7200, 460, True),
        (7200, 1, True),  # another occurrence is due: the alert does not end by that
    ],
)
def test_a_schedule_that_is_late_by_half_its_interval_is_missed_until_it_runs(
    ran_ago: int, past: int, missed: bool
) -> None:
    schedule = Schedule("weather", "*/15 * * * *", "weather-ingestion", _no_jobs)
    occurrence = 1_800_000_000  # a quarter of an hour
    done = {b"weather": str(occurrence - ran_ago).encode()}
    found = list(schedule_conditions([schedule], done, float(occurrence + past)))
    assert _names(found) == (["schedule_missed"] if missed else [])
    if missed:
        assert found[0].since == occurrence - ran_ago + 900 + 450


def test_a_schedule_that_never_ran_or_ran_ahead_of_the_clock_is_not_missed() -> None:
    schedule = Schedule("weather", "*/15 * * * *", "weather-ingestion", _no_jobs)
    for done in ({}, {b"weather": b"soon"}, {b"weather": b"1900000000"}):
        assert list(schedule_conditions([schedule], done, 1_800_000_460.0)) == []


def test_a_process_publishes_the_limits_that_are_not_the_tables() -> None:
    assert DEFAULTS.settings("color-extraction") == {}
    limits = {("backlog", None): 500.0, ("stalled", "color-extraction"): 30.0, ("failing", None): 0.05}
    changed = Thresholds(limits, {"color-extraction:run": 2.0, "weather-ingestion:wait": 1.0})
    assert changed.settings("color-extraction") == {
        "backlog alert": 500,
        "stalled alert": 30,
        "run baseline": 2,
    }


def test_of_two_queues_that_fail_the_worse_one_comes_first() -> None:
    shares = {"alert-fanout": 0.051, "color-extraction": 0.06, "moderation-review": 0.46}
    found = alerts(
        [Condition(rules.FAILING, queue, "fails", NOW - 90, share, 0.05) for queue, share in shares.items()],
        NOW,
    )
    # The first two are about equally bad: they do not change places each second.
    assert [alert.queue for alert in found] == ["moderation-review", "alert-fanout", "color-extraction"]
