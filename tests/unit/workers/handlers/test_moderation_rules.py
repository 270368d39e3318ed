"""Verdicts of the word list and the rules on a text."""

from __future__ import annotations

import time

import pytest

from workers.handlers.moderation.handler import judge


def wide(text: str) -> str:
    """In full-width characters."""
    return "".join(chr(ord(character) + 0xFEE0) for character in text)


@pytest.mark.parametrize(
    "text",
    [
        "Love how this linen drapes, perfect for August.",
        "The sleeves run short. Size up!",
        "Scunthorpe, classic cockpit, assassin, shiitake print",
        "nude tights, sexy cut, panties in silk",
        "polka dot co-ord, black and white",
        "love it.to be worn with anything.In summer",
        "look at this. Nice!",
        "sizes 34 36 38 40 42 44 and 34/36/38/40",
        "bust 88-92 waist 68-72 hips 94-98",
        "EUR 129.99 instead of 149.99, since 2024-01-02",
        "8.5/10, fits true to size",
        "10.000.000 stitches in v2.0.1",
        "ISBN 978-3-16-148410-0",
        "",
        "🧵👗✨",
    ],
)
def test_clean_texts_are_clean(text: str) -> None:
    verdict = judge(text)
    assert (verdict.rejected, verdict.doubtful) == ([], [])


@pytest.mark.parametrize(
    "text",
    ["fuck", "FUCK!", "f.u.c.k", "f u c k", "fuuuuck", wide("fuck"), "fu\u200bck", "f\u00aduck", "f*ck"],
)
def test_drawn_out_profanity_is_rejected(text: str) -> None:
    assert "profanity: fuck" in judge(f"what the {text} is this").rejected


def test_profanity_behind_digits_is_doubtful() -> None:
    verdict = judge("what a b1tch")
    assert (verdict.rejected, verdict.doubtful) == ([], ["possibly disguised profanity"])


@pytest.mark.parametrize(
    "text",
    [
        "http://x.y",
        "HTTPS://EXAMPLE.COM/a",
        "hxxp://example.test",
        "www.example",
        "example.com",
        "shop.example.co.uk/sale",
        "vinted.fr",
        "bit.ly/abc",
        "t.me/abc",
        "wa.me/351912345678",
        "example[.]com",
        "example (dot) com",
        "example dot com",
        wide("example.com"),
        "exam\u200bple.com",
    ],
)
def test_links_are_doubtful(text: str) -> None:
    verdict = judge(f"more at {text} today")
    assert verdict.rejected == []
    assert "a link" in verdict.doubtful


@pytest.mark.parametrize(
    "text",
    [
        "anna@example.com",
        "anna.b+c@mail.example.museum",
        "anna (at) example.com",
        "anna[at]example[dot]com",
        "anna at example dot com",
        wide("anna@example.com"),
    ],
)
def test_addresses_are_doubtful(text: str) -> None:
    assert "an e-mail address" in judge(f"write to {text} please").doubtful


@pytest.mark.parametrize(
    "text",
    [
        "+351 912 345 678",
        "+47 22 12 34 56",
        "+65 6123 4567",
        "912345678",
        "(212) 736-5000",
        "212.736.5000",
        "07911 123456",
        "01 42 68 53 00",
        "0151 23456789",
        "98765 43210",
        "0151 23456789".translate({48 + digit: 0x660 + digit for digit in range(10)}),
        "+351\u200b912\u200b345\u200b678",
    ],
)
def test_phone_numbers_are_doubtful(text: str) -> None:
    assert judge(f"call {text} now").doubtful == ["a phone number"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "a-" * 2500,
        "a." * 2500,
        "a@" * 2500,
        "9" * 5000,
        "9 " * 2500,
        "www." * 1250,
        "a dot " * 830,
        "@" * 5000,
        " " * 5000,
        "(1)" * 1600,
        "ﷺ" * 5000,
        "f*" * 2500,
        "912 345 678 " * 400,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    judge("the libraries are loaded: 912 345 678")
    start = time.process_time()
    judge(text)
    assert time.process_time() - start < 2
