"""Settings from a .env file, the environment and flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.alert_settings import alert_variables, load_thresholds
from app.environment import environment
from app.errors import SettingsError, UsageError
from app.queue_settings import load_policies
from app.settings import Settings, load, unknown_variables
from app.version import VERSION
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES, ECONOMICAL, NORMAL, WEATHER, RateLimit
from workers.monitoring.alert_rules import DEFAULTS, RULES

SECRET = "pa55word"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for name in environment():
        if name.startswith(("COUTURECAST_", "OPENWEATHER_")) or name in ("REDIS_URL", "DATABASE_URL"):
            monkeypatch.delenv(name)


def problems(**flags: object) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(**flags)
    return str(caught.value).split("\n")


def test_without_variables_all_settings_have_their_default() -> None:
    settings, queues = load()
    assert settings.redis_url is None
    assert settings.database_url is None
    assert (settings.environment, settings.log_level, settings.drain_seconds) == ("local", "info", 30.0)
    assert settings.data_dir.is_absolute()
    assert queues == DEFAULT_POLICIES


def test_the_environment_overrides_the_env_file_and_a_flag_overrides_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(
        "COUTURECAST_DATA_DIR=/from/file\nCOUTURECAST_LOG_LEVEL=debug\n"
        "COUTURECAST_COLOR_EXTRACTION_TIMEOUT=11\nCOUTURECAST_ALERT_FANOUT_TIMEOUT=12\n"
        "COUTURECAST_IMAGE_DIRS=/file/a:/file/b\n"
    )
    settings, queues = load()
    assert (settings.data_dir, settings.log_level) == (Path("/from/file"), "debug")
    assert settings.image_dirs == [Path("/file/a"), Path("/file/b")]
    assert (queues[COLOR].timeout, queues[ALERT].timeout) == (11, 12)

    monkeypatch.setenv("COUTURECAST_DATA_DIR", "/from/environment")
    monkeypatch.setenv("COUTURECAST_COLOR_EXTRACTION_TIMEOUT", "21")
    monkeypatch.setenv("COUTURECAST_IMAGE_DIRS", "/environment")
    settings, queues = load()
    assert (settings.data_dir, settings.log_level) == (Path("/from/environment"), "debug")
    assert settings.image_dirs == [Path("/environment")]
    assert (queues[COLOR].timeout, queues[ALERT].timeout) == (21, 12)

    assert load(data_dir=Path("/from/flag"))[0].data_dir == Path("/from/flag")
    assert load(data_dir=None)[0].data_dir == Path("/from/environment")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("COUTURECAST_LOG_LEVEL=debug\nCOUTURECAST_COLOR_EXTRACTION_CONCURRENCY=3\n")
    for name in ("LOG_LEVEL", "COLOR_EXTRACTION_CONCURRENCY", "DRAIN_SECONDS"):
        monkeypatch.setenv(f"COUTURECAST_{name}", "")
    settings, queues = load()
    assert (settings.log_level, settings.drain_seconds, queues[COLOR].concurrency) == ("debug", 30.0, 3)


def test_paths_may_begin_with_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/ours")
    monkeypatch.setenv("COUTURECAST_DATA_DIR", "~/data")
    monkeypatch.setenv("COUTURECAST_IMAGE_DIRS", "~/images:/srv/images")
    settings = Settings.load()
    assert settings.data_dir == Path("/home/of/ours/data")
    assert settings.image_dirs == [Path("/home/of/ours/images"), Path("/srv/images")]


BAD = [
    ("REDIS_URL", f"http://:{SECRET}@host", "use redis://host:port/0, rediss://… or unix:///path"),
    ("REDIS_URL", f"redis://:{SECRET}/x@host:1/0", "%2F"),
    ("REDIS_URL", f"redis://:{SECRET}@host:port/0", "the port cannot be read"),
    ("REDIS_URL", f"redis://:{SECRET}@[::1", "cannot be read"),
    ("DATABASE_URL", f"mysql://root:{SECRET}@host/x", "use postgresql://"),
    ("DATABASE_URL", "sqlite:///", "sqlite:///path"),
    ("OPENWEATHER_BASE_URL", "ftp://host", "URL scheme should be 'http' or 'https'"),
    ("COUTURECAST_MODERATION_URL", "nowhere", "valid URL"),
    ("COUTURECAST_ENVIRONMENT", "x" * 41, "at most 40 characters"),
    ("COUTURECAST_RELEASE", "x" * 101, "use one line of 1 to 100 printable characters"),
    ("COUTURECAST_RELEASE", "v1\nv2", "is not the name of a release"),
    ("COUTURECAST_RELEASE", " ", "use one line of 1 to 100"),
    ("COUTURECAST_DATA_DIR", "~nobody-of-that-name/x", "write the whole path"),
    ("COUTURECAST_IMAGE_DIRS", "/ok:~nobody-of-that-name", "write the whole path"),
    ("COUTURECAST_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ("COUTURECAST_DRAIN_SECONDS", "-1", "greater than or equal to 0"),
    ("COUTURECAST_DRAIN_SECONDS", "nan", ""),
    ("COUTURECAST_DRAIN_SECONDS", "soon", "use for instance 30"),
    ("COUTURECAST_START_PATIENCE", "3601", "less than or equal to 3600"),
    ("COUTURECAST_DB_POOL_SIZE", "0", "greater than or equal to 1"),
    ("COUTURECAST_DB_POOL_SIZE", "many", "use for instance 5"),
    ("COUTURECAST_ECONOMICAL", "perhaps", "use 1 or 0"),
    ("COUTURECAST_ALLOW_PRIVATE_ADDRESSES", "2", "use 1 or 0"),
    ("COUTURECAST_COLOR_EXTRACTION_CONCURRENCY", "0", "between 1 and 1000"),
    ("COUTURECAST_COLOR_EXTRACTION_CONCURRENCY", "1.5", "use for instance 5"),
    ("COUTURECAST_COLOR_EXTRACTION_CONCURRENCY", "9" * 400, "use for instance 5"),
    ("COUTURECAST_ALERT_FANOUT_RATE_LIMIT", "60", "use starts/seconds, for instance 60/60, or none"),
    ("COUTURECAST_ALERT_FANOUT_RATE_LIMIT", "0/60", "60/60"),
    ("COUTURECAST_ALERT_FANOUT_RATE_LIMIT", "60/0", "60/60"),
    ("COUTURECAST_ALERT_FANOUT_RATE_LIMIT", "60/inf", "60/60"),
    ("COUTURECAST_ALERT_FANOUT_RATE_LIMIT", "1/2/3", "60/60"),
    ("COUTURECAST_MODERATION_REVIEW_TIMEOUT", "0", "between 0 and 86400"),
    ("COUTURECAST_MODERATION_REVIEW_TIMEOUT", "nan", "between 0 and 86400"),
    ("COUTURECAST_MODERATION_REVIEW_TIMEOUT", "a minute", "use for instance 60"),
    ("COUTURECAST_WEATHER_INGESTION_RETRY_DELAYS", "1,,5", "use for instance 1,5,25, or none"),
    ("COUTURECAST_WEATHER_INGESTION_RETRY_DELAYS", "1,-5", "1,5,25"),
    ("COUTURECAST_WEATHER_INGESTION_RETRY_DELAYS", "1;5", "1,5,25"),
    ("COUTURECAST_ALERT_BACKLOG", "many", "use a whole number of jobs, for instance 500"),
    ("COUTURECAST_ALERT_BACKLOG", "0", "use a whole number of jobs, for instance 500"),
    ("COUTURECAST_ALERT_BACKLOG", "10.5", "use a whole number of jobs, for instance 500"),
    ("COUTURECAST_ALERT_FAILING", "5", "between 0.001 and 0.999, or for instance 10%"),
    ("COUTURECAST_ALERT_FAILING", "100%", "between 0.001 and 0.999, or for instance 10%"),
    ("COUTURECAST_ALERT_REDIS_MEMORY", "nan", "between 0.001 and 0.999, or for instance 10%"),
    ("COUTURECAST_ALERT_SLOW", "1", "use a number between 1.5 and 1000, for instance 3"),
    ("COUTURECAST_ALERT_STALLED", "10%", "use seconds between 1 and 86400, for instance 30"),
    ("COUTURECAST_ALERT_LETTERS_WAITING", "inf", "use seconds between 1 and 86400, for instance 30"),
    ("COUTURECAST_ALERT_BACKLOG_FOR", "-1", "use seconds between 0 and 86400, for instance 30"),
    ("COUTURECAST_ALERT_FANOUT_ALERT_SLOW", "twice", "use a number between 1.5 and 1000, for instance 3"),
    ("COUTURECAST_COLOR_EXTRACTION_BASELINE_WAIT", "0", "between 0.001 and 86400, for instance 0.5"),
]


@pytest.mark.parametrize(("name", "value", "fix"), BAD, ids=[f"{case[0]}={case[1]:.30}" for case in BAD])
def test_an_invalid_value_gives_one_line_with_the_name_and_the_fix(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, fix: str
) -> None:
    monkeypatch.setenv(name, value)
    (line,) = problems()
    assert line.startswith(f"{name}: ")
    assert fix in line
    assert SECRET not in line


def test_all_problems_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "REDIS_URL": "x",
        "DATABASE_URL": "x",
        "COUTURECAST_LOG_LEVEL": "x",
        "COUTURECAST_COLOR_EXTRACTION_CONCURRENCY": "x",
        "COUTURECAST_ALERT_FANOUT_RATE_LIMIT": "x",
        "COUTURECAST_ALERT_BACKLOG": "x",
        "COUTURECAST_ALERT_FANOUT_ALERT_BACKLOG": "x",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert {line.partition(":")[0] for line in problems()} == set(wrong)


def test_an_unreadable_env_file_is_reported(tmp_path: Path) -> None:
    Path(".env").write_bytes(b"COUTURECAST_ENVIRONMENT=\xff\xfe\n")
    assert problems() == [".env is not UTF-8 text: save it as UTF-8"]


def test_secrets_show_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://user:{SECRET}@host/0")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{SECRET}@host/x")
    monkeypatch.setenv("OPENWEATHER_API_KEY", SECRET)
    monkeypatch.setenv("COUTURECAST_MODERATION_KEY", SECRET)
    monkeypatch.setenv("COUTURECAST_NOTIFY_URLS", f"slack://{SECRET}/{SECRET}/{SECRET}")
    settings = Settings.load()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert SECRET not in shown
    assert settings.redis_url is not None
    assert SECRET in settings.redis_url.get_secret_value()


def test_an_invalid_secret_is_not_quoted() -> None:
    with pytest.raises(UsageError) as caught:
        Settings.load(openweather_api_key=[SECRET])
    assert SECRET not in str(caught.value)


def test_settings_of_a_queue_change_no_other_queue() -> None:
    made = load_policies(
        {
            "COUTURECAST_WEATHER_INGESTION_RATE_LIMIT": "none",
            "COUTURECAST_COLOR_EXTRACTION_CONCURRENCY": "3",
            "COUTURECAST_COLOR_EXTRACTION_RATE_LIMIT": "60/0.5",
            "COUTURECAST_COLOR_EXTRACTION_TIMEOUT": "7.5",
            "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "0.1, 2",
            "COUTURECAST_ALERT_FANOUT_RETRY_DELAYS": "none",
        }
    )
    color = made[COLOR]
    assert (color.concurrency, color.timeout, color.retry_delays) == (3, 7.5, (0.1, 2.0))
    assert color.rate_limit == RateLimit(60, 0.5)
    assert color.max_attempts == 3
    assert made[WEATHER].rate_limit is None
    assert made[WEATHER].concurrency == DEFAULT_POLICIES[WEATHER].concurrency
    assert made[ALERT].retry_delays == ()
    assert list(made) == list(DEFAULT_POLICIES)


def test_a_queue_may_have_a_redis_of_its_own_whose_password_shows_nowhere() -> None:
    url = f"rediss://user:{SECRET}@host/0"
    made = load_policies({"COUTURECAST_COLOR_EXTRACTION_REDIS_URL": url})
    assert {name: policy.redis_url for name, policy in made.items() if policy.redis_url} == {COLOR: url}
    assert SECRET not in repr(made)
    for wrong in (f"http://user:{SECRET}@host", f"redis://user:a/{SECRET}@host:1", "redis://host/x?db=one"):
        with pytest.raises(SettingsError) as caught:
            load_policies({"COUTURECAST_COLOR_EXTRACTION_REDIS_URL": wrong})
        (line,) = str(caught.value).splitlines()
        assert line.startswith("COUTURECAST_COLOR_EXTRACTION_REDIS_URL: ")
        assert SECRET not in line


def test_limits_of_alerts_hold_for_all_queues_unless_one_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load()[0].thresholds == DEFAULTS
    for name, value in {
        "ALERT_BACKLOG": "500",
        "COLOR_EXTRACTION_ALERT_BACKLOG": "20",
        "ALERT_FANOUT_ALERT_FAILING": "0.5%",
        "ALERT_REDIS_MEMORY": "90%",
        "COLOR_EXTRACTION_BASELINE_RUN": "0.25",
    }.items():
        monkeypatch.setenv(f"COUTURECAST_{name}", value)
    thresholds = load()[0].thresholds
    assert [thresholds.limit("backlog", queue) for queue in (None, WEATHER, COLOR)] == [500, 500, 20]
    assert thresholds.ends_at("backlog", COLOR) == 16
    assert [thresholds.limit("failing", queue) for queue in (ALERT, COLOR)] == [0.005, 0.05]
    assert thresholds.limit("redis_memory") == 0.9
    assert thresholds.baselines == {f"{COLOR}:run": 0.25}


def test_each_rule_with_a_limit_has_a_setting_that_the_readme_lists() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    rules = [rule for rule in RULES if rule.limit is not None]
    assert rules
    for rule in rules:
        assert f"`{rule.setting}`" in text
        assert rule.setting in alert_variables()
        assert load_thresholds({rule.setting: f"{rule.limit}"}).limit(rule.name) == rule.limit


def test_each_rule_with_a_duration_has_a_setting_that_the_readme_lists() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    rules = [rule for rule in RULES if rule.for_seconds]
    assert rules
    for rule in rules:
        assert f"`{rule.for_setting}`" in text
        assert rule.for_setting in alert_variables()
        thresholds = load_thresholds({rule.for_setting: "7.5"})
        assert thresholds.for_seconds(rule.name) == 7.5
        assert load_thresholds({}).for_seconds(rule.name) == rule.for_seconds
    assert load_thresholds({"COUTURECAST_ALERT_BACKLOG_FOR": "0"}).for_seconds("backlog") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("COUTURECAST_DRAIN_SECOND", "did you mean COUTURECAST_DRAIN_SECONDS?"),
        ("COUTURECAST_COLOR_EXTRACTION_CONCURENCY", "did you mean COUTURECAST_COLOR_EXTRACTION_CONCURRENCY?"),
        ("COUTURECAST_COLORS_TIMEOUT_X", "is not a setting"),
        ("COUTURECAST_ALERT_BACKLOGS", "did you mean COUTURECAST_ALERT_BACKLOG?"),
        ("COUTURECAST_ALERT_NO_WORKER", "did you mean COUTURECAST_ALERT_NO_WORKER_FOR?"),
        ("COUTURECAST_COLOR_EXTRACTION_ALERT_REDIS_MEMORY", "is not a setting"),
        ("COUTURECAST_REDIS_URL", "did you mean REDIS_URL?"),
        ("COUTURECAST_DATABASE_URL", "did you mean DATABASE_URL?"),
    ],
)
def test_an_unknown_variable_is_reported_with_a_suggestion(name: str, message: str) -> None:
    (line,) = unknown_variables({name: "redis://host", "COUTURECAST_LOG_LEVEL": "info", "PATH": "/bin"})
    assert line.startswith(f"{name} is not a setting")
    assert message in line


def test_every_setting_that_the_readme_lists_is_known() -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text()
    named = set(re.findall(r"`(COUTURECAST_[A-Z_]+[A-Z])(?:=[^`]*)?`", text))
    assert "COUTURECAST_DRAIN_SECONDS" in named
    assert unknown_variables(dict.fromkeys(named, "")) == []


def test_redis_url_with_our_prefix_is_not_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUTURECAST_REDIS_URL", "redis://elsewhere/0")
    assert Settings.load().redis_url is None


@pytest.mark.parametrize(
    ("url", "economical", "pace"),
    [
        ("rediss://default:x@eu1-fair-cat-1.upstash.io:6379", None, ECONOMICAL),
        ("rediss://default:x@EU1.UPSTASH.IO:6379", None, ECONOMICAL),
        ("rediss://default:x@eu1.upstash.io:6379", "0", NORMAL),
        ("redis://upstash.io.example.com/0", None, NORMAL),
        ("redis://localhost/0", None, NORMAL),
        ("redis://localhost/0", "1", ECONOMICAL),
        ("unix:///run/redis.sock", None, NORMAL),
        (None, None, NORMAL),
    ],
)
def test_the_economical_mode_is_the_default_at_upstash(
    monkeypatch: pytest.MonkeyPatch, url: str | None, economical: str | None, pace: object
) -> None:
    if url is not None:
        monkeypatch.setenv("REDIS_URL", url)
    if economical is not None:
        monkeypatch.setenv("COUTURECAST_ECONOMICAL", economical)
    assert Settings.load().pace == pace


def test_the_release_is_the_version_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().release == VERSION
    monkeypatch.setenv("COUTURECAST_RELEASE", " v1.2 (build 7) ")
    assert Settings.load().release == "v1.2 (build 7)"
