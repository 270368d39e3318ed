"""One name for all failures that are really the same error."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from types import FrameType
from typing import NamedTuple

from workers.engine.recorded_names import error_type, fingerprint_type, handler_module, is_ours
from workers.engine.remote_error import RemoteError

_NOISE = "●"
"""Stands for whatever differs between two failures that are the same error."""

# No rule may match what another one left behind, or a second pass would find more than the first.  So
# `_NOISE` is part of no pattern, and counts as a letter if a pattern tests its neighbours.  Repetitions
# are possessive (``*+``) or bounded: no message makes a search slow.
_NOT_AFTER_WORD = rf"(?<![\w{_NOISE}])"
_RIGHT = rf"(?![\w{_NOISE}])"
_ID = rf"(?<![A-Za-z0-9{_NOISE}])"  # an underscore may be next to an id
_ID_END = rf"(?![A-Za-z0-9{_NOISE}])"
_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d++)?)?"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)(?![A-Za-z]))?"
_DAY = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?,? )?"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:tember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
)
_NAME = r"[\w.@%+=~$-]++"  # of a file
_STATUS = r"[1-5]\d\d"


def _quotation(mark: str, end: str) -> str:
    """Return a quotation.

    An apostrophe within a word begins and ends none, and a quotation that is cut goes to the end.
    """
    return (
        rf"{_NOT_AFTER_WORD}[bBrRuU]{{0,2}}{mark}(?!\s|$|{_STATUS} [A-Z])"
        rf"(?:[^{end}\\]|\\.?|[{end}](?=\w))*+(?:[{end}]|$)"
    )


class Rule(NamedTuple):
    """Parts that differ between two failures of one kind: each match becomes the same mark.

    ``examples`` are texts that match as a whole.
    """

    name: str
    pattern: re.Pattern[str]
    examples: tuple[str, ...]


def _rule(name: str, pattern: str, *examples: str) -> Rule:
    return Rule(name, re.compile(pattern, re.DOTALL), examples)


RULES = (
    _rule(
        "quotation",
        "|".join(
            (
                _quotation("'", "'"),
                _quotation('"', '"'),
                _quotation("`", "`'"),
                r"\u201c[^\u201d]*+\u201d?",
                r"\u201e[^\u201c\u201d]*+[\u201c\u201d]?",
                r"[\u2018\u201a](?:[^\u2018\u2019]|[\u2018\u2019](?=\w))*+[\u2018\u2019]?",
                r"\u00ab[^\u00bb]*+\u00bb?",
                r"\u2039[^\u203a]*+\u203a?",
                r"\u300c[^\u300d]*+\u300d?",
            )
        ),
        *("'the user's file'", 'b"x"', "`a'", "\u201cx\u201d", "\u201ex\u201c", "\u2018it\u2019s\u2019"),
        *("\u00abx\u00bb", "\u2039x\u203a", "\u300cx\u300d", "'cut within its quo"),
    ),
    _rule(
        "URL, without the punctuation after it",
        rf"{_NOT_AFTER_WORD}[A-Za-z][A-Za-z0-9+.-]{{0,30}}+://[^\s'\"`<>{_NOISE}]*[^\s'\"`<>{_NOISE}.,;:!?)\]}}]",
        *("https://a.example/x?y=1#z", "rediss://:pw@h:6379/0", "http://[::1]:80/a"),
    ),
    _rule(
        "e-mail address",
        rf"(?<![\w.+{_NOISE}-])[\w.+-]{{1,64}}+@[\w-]++(?:\.[\w-]++)++",
        *("anna@shop.example", "a.b+c@d-e.co.uk"),
    ),
    _rule(
        "UUID",
        rf"{_ID}[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}{_ID_END}",
        *("5f0c9a1e-2b3c-4d5e-8f90-a1b2c3d4e5f6", "5F0C9A1E-2B3C-4D5E-8F90-A1B2C3D4E5F6"),
    ),
    _rule(
        "date and time of ISO 8601",
        rf"{_NOT_AFTER_WORD}\d{{4}}[-/.]\d\d[-/.]\d\d(?:[T ]{_TIME}{_ZONE})?{_RIGHT}",
        *("2026-03-01", "2026/03/01 12:00", "2026-03-01T12:00:00.250Z", "2026-03-01 12:00:00,5 +0100"),
    ),
    _rule(
        "date and time of RFC 2822, and of web logs",
        rf"{_NOT_AFTER_WORD}{_DAY}\d{{1,2}}[ /-]{_MONTH}[ /-]\d{{4}}(?:[ :]{_TIME}{_ZONE})?{_RIGHT}",
        *("Sun, 01 Mar 2026 12:00:00 GMT", "01/Mar/2026:12:00:00 +0000", "1-March-2026"),
    ),
    _rule(
        "date and time of ctime, and in words",
        rf"{_NOT_AFTER_WORD}{_DAY}{_MONTH} \d{{1,2}}(?:,? \d{{4}})?,? {_TIME}{_ZONE}(?: \d{{4}})?{_RIGHT}",
        *("Sun Mar 1 12:00:00 2026", "March 1, 2026 12:00", "Mar 1 12:00:00"),
    ),
    _rule(
        "IPv6 address with a port",  # IPv4 is a number to us
        rf"{_NOT_AFTER_WORD}\[(?=[A-Fa-f:]*\d)[0-9A-Fa-f.:]++(?:%\w++)?\]:\d++",
        *("[::1]:6379", "[fe80::1%eth0]:80"),
    ),
    _rule(
        "IPv6 address",
        rf"(?<![\w.:{_NOISE}])(?=[A-Fa-f:]*\d)(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}+"
        rf"(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|[0-9A-Fa-f]{{1,4}})?(?:%\w++)?(?![\w:{_NOISE}]|[.,]\d)",
        *("::1", "fe80::1%eth0", "2001:db8:0:0:0:0:0:1", "::ffff:10.0.0.1"),
    ),
    _rule(
        "host with a port",
        rf"(?<![\w.{_NOISE}-])[\w-]++(?:\.[\w-]++)++:\d{{1,5}}{_RIGHT}",
        *("redis.example.com:6379", "10.0.0.1:80"),
    ),
    _rule(
        "path of Windows",
        rf"(?<![\w\\{_NOISE}])(?:[A-Za-z]:|\\\\{_NAME})(?:[\\/]++{_NAME})++",
        *(r"C:\Users\x.txt", r"\\server\a\b.txt", "d:/shop/a.jpg"),
    ),
    _rule(
        "path of two names or more",
        rf"{_NOT_AFTER_WORD}(?:~|\.{{1,2}})?(?:/{_NAME}){{2,}}+/?",
        *("/srv/shop", "~/shop/a.jpg", "../shop/pictures/"),
    ),
    _rule(
        "number with a fraction, whose digits could pass for an id",
        rf"(?<![\w/{_NOISE}])[-+]?\d++(?:\.\d++)++(?:[eE][-+]?\d++)?{_ID_END}",
        *("3.14159265358979", "-1.5e-05", "10.0.0.1"),
    ),
    _rule(
        "hexadecimal id",
        rf"{_ID}(?:0[xX][0-9a-fA-F]+|(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{{8,}}+){_ID_END}",
        *("0x7f3a5c", "7f3c2a1b", "9F2B1C0D4E5A6F78"),
    ),
    _rule(
        "token in base64: long, with two digits or more, capitals and small letters, and perhaps marks",
        rf"(?<![\w+/{_NOISE}-])(?=(?:[A-Za-z_+/-]*+\d){{2}})(?=[a-z0-9_+/-]*+[A-Z])(?=[A-Z0-9_+/-]*+[a-z])"
        rf"[A-Za-z0-9_+/-]{{20,}}+=*+{_RIGHT}",
        *("dGhlIHF1aWNrIGJyb3duIGZveA9==", "Zm9v-YmFy_MTIzNDU2Nzg5"),
    ),
    _rule(
        "other id: long, with two digits or more",
        rf"{_ID}(?=(?:[A-Za-z]*+\d){{2}})(?=\d*[A-Za-z])[A-Za-z0-9]{{20,}}+{_ID_END}",
        *("01ARZ3NDEKTSV4RRFFQ69G5FAV", "order2026anna17porto42"),
    ),
)
"""In their order: each sees what those before it have left."""

_NUMBER = re.compile(
    rf"((?:(?i:http[a-z]{{0,20}}+(?:/\d(?:\.\d)?)?(?: error)?|status|code|answers)"
    rf"[^\w{_NOISE}]{{0,3}}{_STATUS}"
    rf"|(?:^|(?<=['\"`])){_STATUS}(?=$|[,:]| from | [A-Z]))(?![\w{_NOISE}]|[.,:/-]\d))"
    rf"|(?:{_NOT_AFTER_WORD}[-+])?\d++(?:[.,:]\d++)*+(?:[eE][-+]?\d++)?"
)
"""A number, or else, in the first group, a status code with what makes it one."""

_MAX_CHARS = 1_000
"""Characters of a normalised message that count: a long one was cut, and not at the same word each time."""


def normalise(message: str) -> str:
    """Return ``message`` without what differs between failures; to do so twice changes nothing.

    Numbers, ids, addresses, paths, dates and quotations all become the same mark.  The status code of an
    answer stays, for 404 and 503 are different errors.  It is a number from 100 to 599 that follows
    ``HTTP``, ``status``, ``code`` or ``answers``.  At the beginning of the message or of a quotation it
    stands before ``from``, a capital, a comma, a colon or the end.
    """
    text = " ".join(message.split())
    for rule in RULES:
        text = rule.pattern.sub(_NOISE, text)
    text = _NUMBER.sub(lambda match: match[1] or _NOISE, text)
    return re.sub(rf"{_NOISE}{{2,}}", _NOISE, text)


def fingerprint(queue: str, function: str, error_name: str, message: str, frame: str | None) -> str:
    """Return 16 hexadecimal digits, the same for failures of one function that differ only in their noise.

    ``error_name`` is what `error_type` returns, ``frame`` what `handler_frame` returns.
    """
    parts = (queue, function, fingerprint_type(error_name), normalise(message)[:_MAX_CHARS], frame)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def handler_frame(error: BaseException) -> str | None:
    """Return the innermost frame of ``error`` that is a handler's code, as ``module:function``.

    None without one, and for a timeout: the frame in which the time ran out is chance.
    """
    if error_type(error) == "JobTimeoutError":  # its traceback is that of a cancellation
        return None
    if isinstance(error, RemoteError):
        return error.frame
    innermost = None
    trace = error.__traceback__
    while trace is not None:
        if is_handler_frame(trace.tb_frame):
            innermost = trace.tb_frame
        trace = trace.tb_next
    if innermost is None:
        return None
    module = innermost.f_globals["__name__"]
    return f"{handler_module(module) or module}:{innermost.f_code.co_qualname}"


def is_handler_frame(frame: FrameType) -> bool:
    """Return whether it is code of our handlers, wherever they are installed, or outside of all libraries.

    The rest of this program is as a library to them: it calls them, or they call it.
    """
    module, file = frame.f_globals.get("__name__"), frame.f_globals.get("__file__")
    if not isinstance(module, str) or frame.f_code.co_filename.startswith("<"):  # generated, or frozen
        return False
    if is_ours(module):
        return handler_module(module) is not None
    if module.partition(".")[0] in sys.stdlib_module_names:
        return False
    # A compiled extension's frames name its source, which is not there: its module has the file.
    where = file if isinstance(file, str) else frame.f_code.co_filename
    return not {"site-packages", "dist-packages"}.intersection(re.split(r"[\\/]", where))
