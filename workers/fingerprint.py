"""One name for all failures that are really the same error."""

from __future__ import annotations

import hashlib
import re

_NOISE = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<id>"),
    (re.compile(r"\b\w[\w.+-]*@[\w-]+\.[\w.-]+"), "<address>"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.IGNORECASE), "<address>"),
    (re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"|`[^`\n]*`"), "<text>"),
    (re.compile(r"(?<!\w)~?(?:/[\w.@%+-]+){2,}/?"), "<path>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"[-+]?\d+(?:[.,:]\d+)*"), "<n>"),
)


def normalise(message: str) -> str:
    """``message`` with ids, addresses, quoted strings, paths and numbers replaced by what they are."""
    for pattern, name in _NOISE:
        message = pattern.sub(name, message)
    return " ".join(message.split())


def fingerprint(function: str, error_type: str, message: str) -> str:
    """16 hexadecimal digits, the same for failures of one function that differ only in their noise."""
    text = "\0".join((function, error_type, normalise(message)))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
