"""Messages that are the same error, and messages that are not."""

from __future__ import annotations

import base64
import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers.engine.fingerprint import RULES, Rule, fingerprint, normalise


def named(message: str, *, frame: str | None = "shop:handle") -> str:
    return fingerprint("color-extraction", "f", "E", message, frame)


numbers = (
    st.integers(-(10**20), 10**20).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(1000, 10**9).map("{:,}".format)
)
ids = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda uuid: str(uuid).upper()),
    st.integers(0, 2**64).map(hex),
    st.binary(min_size=12, max_size=32).map(bytes.hex).filter(lambda text: any(map(str.isdigit, text))),
    st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=24, max_size=24).map("01{}".format),  # ULID
    st.binary(min_size=24, max_size=48)
    .map(lambda data: base64.urlsafe_b64encode(data).decode())
    .filter(lambda text: sum(map(str.isdigit, text)) > 1 and text.upper() != text != text.lower()),
)
labels = st.from_regex(r"[a-z]([a-z0-9]{1,8}-)?[a-z0-9]{1,8}", fullmatch=True)
hosts = st.lists(labels, min_size=2, max_size=4).map(".".join)
ports = st.integers(1, 65_535)
v6 = (
    st.ip_addresses(v=6)
    .flatmap(lambda address: st.sampled_from([str(address), address.exploded]))
    .filter(lambda text: any(map(str.isdigit, text)))
)
addresses = st.one_of(
    st.ip_addresses(v=4).map(str),
    v6,
    st.builds("{}:{}".format, st.ip_addresses(v=4), ports),
    st.builds("[{}]:{}".format, v6, ports),
    st.builds("{}:{}".format, hosts, ports),
    st.builds("{}@{}".format, labels, hosts),
    st.builds("{}://{}:{}/{}?a={}".format, st.sampled_from(["http", "rediss"]), hosts, ports, labels, labels),
)
plain = st.text(string.ascii_letters + string.digits + " ,;:.-_()[]{}/äöß", max_size=30).map(
    lambda text: f"x{text}x"  # a quotation mark before a space is none
)
quotations = st.one_of(
    (plain | st.text(string.printable, max_size=20)).map(lambda text: repr(f"x{text}x")),
    plain.map(lambda text: repr(text.encode())),
    plain.map(json.dumps),
    *(plain.map(marks.format) for marks in ("`{}`", "“{}”", "„{}“", "‘{}’", "«{}»", "‹{}›", "「{}」")),  # noqa: RUF001
)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}(\.[a-z]{2,4})?", fullmatch=True)
paths = st.lists(names, min_size=2, max_size=5).flatmap(
    lambda parts: st.sampled_from(
        [
            "/" + "/".join(parts),
            "~/" + "/".join(parts),
            "../" + "/".join(parts),
            "C:\\" + "\\".join(parts),
            "d:/" + "/".join(parts),
            "\\\\" + "\\".join(["server", *parts]),
        ]
    )
)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)).map(
    lambda instant: instant.replace(tzinfo=UTC)
)
times = instants.flatmap(
    lambda at: st.sampled_from(
        [
            at.isoformat(),
            at.isoformat(" ", "seconds"),
            at.isoformat().replace("+00:00", "Z"),
            f"{at:%Y-%m-%d}",
            f"{at:%H:%M:%S,%f}",
            f"{at:%Y/%m/%d %H:%M}",
            f"{at:%a, %d %b %Y %H:%M:%S GMT}",
            f"{at:%d/%b/%Y:%H:%M:%S +0000}",
            f"{at:%c}",
            f"{at:%B %d, %Y %H:%M}",
        ]
    )
)
noise = st.one_of(numbers, ids, addresses, quotations, paths, times)
templates = st.sampled_from(
    [
        "no such order: {}",
        "{} is gone",
        "cannot read {} of the shop ({})",
        "key={}, and can't say more of the users' {}",
        "<Job object at {}> refused [{}]",
        "value {}\n\tis not\u00a0{}",
        "Größe {} paßt nicht",
        "the service answers 503; {}",
    ]
)


def _not_a_status(text: str) -> bool:
    return not (text.isdigit() and 100 <= int(text) <= 599)


@given(templates, *[noise.filter(_not_a_status)] * 4)
def test_noise_does_not_make_another_error(template: str, a: str, b: str, c: str, d: str) -> None:
    one, other = template.format(a, b), template.format(c, d)
    assert normalise(one) == normalise(other)
    assert named(one) == named(other)


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_each_rule_replaces_its_examples(rule: Rule) -> None:
    assert rule.examples
    for text in rule.examples:
        assert rule.pattern.fullmatch(text), text
        assert normalise(text) == "●"


@pytest.mark.parametrize(
    ("message", "normalised"),
    [
        ("order 17 not found", "order ● not found"),
        ("took -1.5e-05s of +3", "took ●s of ●"),
        ("<Foo object at 0x7f3a5c>", "<Foo object at ●>"),
        ("cus_01ARZ3NDEKTSV4RRFFQ69G5FAV is gone", "● is gone"),
        ("ORDER_01ARZ3NDEKTSV4RRFFQ69G5FAV is gone", "ORDER_● is gone"),
        ("see https://a.example/x, (http://b.example/y).", "see ●, (●)."),
        ("GET http://[::1]:80/a", "GET ●"),
        ("no route to fe80::1%eth0, ::1, or 10.0.0.1/8", "no route to ●, ●, or ●/●"),
        ("Connect call failed ('127.0.0.1', 6379)", "Connect call failed (●, ●)"),
        (r"open C:\Users\x.txt or \\srv\a\b.txt", "open ● or ●"),
        ("""near 'it''s "x"': b'\\'y' u"z" """, "near ●: ● ●"),
        ("can't read the user's file 'a b'", "can't read the user's file ●"),
        ("can’t read the users’ file ‘it’s’", "can’t read the users’ file ●"),  # noqa: RUF001
        ('expected " " or "" at the end', 'expected " " or ● at the end'),
        ("bad value 'cut within its quo", "bad value ●"),
        ("  one\n two\u2003three\t", "one two three"),
        # Words survive.
        ("utf8 and sha256 in connection_pool_v2_exhausted", "utf● and sha● in connection_pool_v●_exhausted"),
        ("OAuth2AuthorizationServerError", "OAuth●AuthorizationServerError"),
        ("storage.weather.WeatherStore and/or read/write", "storage.weather.WeatherStore and/or read/write"),
        ("std::vector Foo :: bar deadbeef Market 5", "std::vector Foo :: bar deadbeef Market ●"),
        ("localhost:6379 refused", "localhost:● refused"),
    ],
)
def test_what_is_left_of_a_message(message: str, normalised: str) -> None:
    assert normalise(message) == normalised


@pytest.mark.parametrize(
    ("message", "normalised"),
    [
        ("503 from the weather service", "503 from the weather service"),
        ("404 Client Error: Not Found for url: http://a.example", "404 Client Error: Not Found for url: ●"),
        ("404, message='Not Found'", "404, message=●"),
        ("429", "429"),
        ("Client error '404 Not Found' for url 'http://a'", "Client error '404 Not Found' for url ●"),
        ("HTTP Error 404: gone", "HTTP Error 404: gone"),
        ("HTTP/1.1 502 (HTTP 502)", "HTTP/1.1 502 (HTTP 502)"),
        ("HTTPStatusError: 503", "HTTPStatusError: 503"),
        ("status_code=500, Status: 404", "status_code=500, Status: 404"),
        ("exit code 137", "exit code 137"),
        ("subscriber 404: its webhook answers 503", "subscriber ●: its webhook answers 503"),
        # These are numbers as any other.
        ("120 of 300 subscribers not reached", "● of ● subscribers not reached"),
        ("code 4040, code 99, code 600, code 404.5", "code ●, code ●, code ●, code ●"),
        ("status 2024-05-01, error -200", "status ●, error ●"),
        ("order 503 not found", "order ● not found"),
        ("item '503'", "item ●"),
    ],
)  # fmt: skip
def test_a_status_code_stays(message: str, normalised: str) -> None:
    assert normalise(message) == normalised


words = st.lists(
    st.text(string.ascii_lowercase, min_size=1, max_size=12), min_size=1, max_size=8
).map(" ".join)  # fmt: skip


@given(words, words, noise)
def test_other_words_are_another_error(one: str, other: str, anything: str) -> None:
    assert normalise(one) == one
    same = one == other
    assert (named(f"{one}: {anything}") == named(f"{other}: {anything}")) == same


parts = st.tuples(st.text(), st.text(), st.text(), words, st.none() | st.text())


@given(parts, parts)
@example(("q", "f", "E", "m", None), ("q", "f", "E", "m", ""))
@example(("q", "f", "E", "m", None), ("q", "f", "E", "m", "None"))
@example(("a\0", "b", "E", "m", None), ("a", "\0b", "E", "m", None))
def test_each_part_of_a_fingerprint_separates_errors(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (fingerprint(*one) == fingerprint(*other)) == (one == other)
    for number in range(5):
        mixed = (*one[:number], other[number], *one[number + 1 :])
        assert (fingerprint(*mixed) == fingerprint(*one)) == (one[number] == other[number])


def test_the_cut_of_a_long_message_does_not_change_the_fingerprint() -> None:
    long = "cannot insert: " + "a word, " * 400
    assert named(f"{long} {17}"[:2000]) == named(f"1{long} {2}"[1:1990])
    assert named("bad: 'x" + "y z " * 600) == named("bad: 'xx" + "z y " * 500)


pieces = st.sampled_from(
    [
        *"'\"`“”„‘’«»\\/:.,-+@%●⟩<>[](){}=~_ \n\t\0aZz09éb",  # noqa: RUF001
        *("0x", "://", "503", "status ", "HTTP ", "404 Not", " from ", "aaaaaaaa1", "A1a2" * 6, "e-5"),
        *("2024-05-01", "T10:20", "Mon, ", "1 May 2024", "May 1 10:20:30"),
        *("::1", "C:\\", "a@b.c", "x.y:1", "/a/b", "\ud800"),
    ]
)
texts = (
    st.text() | st.lists(pieces, max_size=30).map("".join) | st.lists(noise | pieces, max_size=8).map("".join)
)


@given(texts)
def test_to_normalise_again_changes_nothing(message: str) -> None:
    once = normalise(message)
    assert normalise(once) == once
    assert named(once) == named(message)


@given(texts, st.none() | st.text())
def test_any_message_has_a_fingerprint(message: str, frame: str | None) -> None:
    found = named(message, frame=frame)
    assert len(found) == 16
    assert set(found) <= set("0123456789abcdef")


@pytest.mark.timeout(20)  # it takes less than a second; by the square of the length it would take minutes
@pytest.mark.parametrize("length", [30_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "piece",
    [
        *("'a ", '"', "\\", "`a'", "“", "‘a", "a://", "a.a+", "a://,", "a@", "a.", "a@a."),  # noqa: RUF001
        *("aaaaaaaa-", "1-", "2024-01-01 ", "Mon, ", "Jan 1 ", "[1", "1:", "::1", "a.a:", "/a", "//", "C:\\"),
        *("\\\\a\\", "0x", "a", "1", "A1a-", "_", "http", "HTTP/1.", "status", "404 ", "1.", "-1", "●", "+/"),
        *(" ", "a b ", "\0", "\ud800"),
    ],
)
def test_no_message_makes_it_slow(piece: str, length: int) -> None:
    long = piece * (length // len(piece))
    normalise(long)
    normalise(f"a{long}!")
