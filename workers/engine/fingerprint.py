"""One name for all failures that are really the same error."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from types import FrameType

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


_RULES = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        # Quotations.
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
        # URLs, without the punctuation after them; e-mail addresses.
        rf"{_NOT_AFTER_WORD}[A-Za-z][A-Za-z0-9+.-]{{0,30}}+://[^\s'\"`<>{_NOISE}]*[^\s'\"`<>{_NOISE}.,;:!?)\]}}]",
        rf"(?<![\w.+{_NOISE}-])[\w.+-]{{1,64}}+@[\w-]++(?:\.[\w-]++)++",
        # UUIDs.
        rf"{_ID}[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}{_ID_END}",
        # Dates and times: ISO 8601, RFC 2822 and web logs, ctime and in words.
        rf"{_NOT_AFTER_WORD}\d{{4}}[-/.]\d\d[-/.]\d\d(?:[T ]{_TIME}{_ZONE})?{_RIGHT}",
        rf"{_NOT_AFTER_WORD}{_DAY}\d{{1,2}}[ /-]{_MONTH}[ /-]\d{{4}}(?:[ :]{_TIME}{_ZONE})?{_RIGHT}",
        rf"{_NOT_AFTER_WORD}{_DAY}{_MONTH} \d{{1,2}}(?:,? \d{{4}})?,? {_TIME}{_ZONE}(?: \d{{4}})?{_RIGHT}",
        # IPv6, with a port and without; hosts with a port.  IPv4 is a number to us.
        rf"{_NOT_AFTER_WORD}\[(?=[A-Fa-f:]*\d)[0-9A-Fa-f.:]++(?:%\w++)?\]:\d++",
        rf"(?<![\w.:{_NOISE}])(?=[A-Fa-f:]*\d)(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}+"
        rf"(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}|[0-9A-Fa-f]{{1,4}})?(?:%\w++)?(?![\w:{_NOISE}]|[.,]\d)",
        rf"(?<![\w.{_NOISE}-])[\w-]++(?:\.[\w-]++)++:\d{{1,5}}{_RIGHT}",
        # Paths of Windows; paths of two names or more.
        rf"(?<![\w\\{_NOISE}])(?:[A-Za-z]:|\\\\{_NAME})(?:[\\/]++{_NAME})++",
        rf"{_NOT_AFTER_WORD}(?:~|\.{{1,2}})?(?:/{_NAME}){{2,}}+/?",
        # Numbers with a fraction, whose digits could pass for an id.
        rf"(?<![\w/{_NOISE}])[-+]?\d++(?:\.\d++)++(?:[eE][-+]?\d++)?{_ID_END}",
        # Ids: hexadecimal ones; tokens in base64, which are long and have two digits or more, capitals, small
        # letters, and perhaps marks; others that are long and have two digits or more.
        rf"{_ID}(?:0[xX][0-9a-fA-F]+|(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{{8,}}+){_ID_END}",
        rf"(?<![\w+/{_NOISE}-])(?=(?:[A-Za-z_+/-]*+\d){{2}})(?=[a-z0-9_+/-]*+[A-Z])(?=[A-Z0-9_+/-]*+[a-z])"
        rf"[A-Za-z0-9_+/-]{{20,}}+=*+{_RIGHT}",
        rf"{_ID}(?=(?:[A-Za-z]*+\d){{2}})(?=\d*[A-Za-z])[A-Za-z0-9]{{20,}}+{_ID_END}",
    )
)

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
    for rule in _RULES:
        text = rule.sub(_NOISE, text)
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
