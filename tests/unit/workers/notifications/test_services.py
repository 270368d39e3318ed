"""Services are made of URLs that never show, and apprise is loaded only if there is one."""

from __future__ import annotations

import importlib.util
import logging

import pytest

from workers.errors import NotifyUrlError
from workers.notifications.services import MAX_URLS, load_services

SECRET = "t0ken-s3cret"


@pytest.mark.parametrize(
    "urls",
    [
        "json://a.example json://b.example",
        "json://a.example,json://b.example",
        " json://a.example/x?y=1,2 ;\n\tjson://b.example\n",
    ],
)
def test_urls_are_separated_by_spaces_lines_or_commas(urls: str) -> None:
    assert [service.label for service in load_services(urls)] == ["1 JSON", "2 JSON"]


@pytest.mark.parametrize(
    "url",
    [f"nothing://{SECRET}", SECRET, f"slack://{SECRET}", f"mailto://{SECRET}", f"json://u:{SECRET}@:x/"],
)
def test_a_url_that_cannot_be_used_is_named_by_its_place_and_not_quoted(
    url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.NOTSET)
    with pytest.raises(NotifyUrlError, match=r"^URL 2 cannot be used: .*https://appriseit\.com") as caught:
        load_services(f"json://a.example {url}")
    written = "".join([str(caught.value), caplog.text, *capsys.readouterr()])
    assert SECRET not in written
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("urls", [" ", "json://a.example " * (MAX_URLS + 1)])
def test_none_and_too_many_are_refused(urls: str) -> None:
    with pytest.raises(NotifyUrlError):
        load_services(urls)


def test_without_apprise_one_line_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotifyUrlError) as caught:
        load_services(f"json://{SECRET}")
    assert str(caught.value) == (
        "notifications need apprise, which is not installed: pip install 'couturecast-tui[notify]'"
    )
