"""Error replies of Redis: the problem, its fix, and whether it passes, in one table for all surfaces."""

from __future__ import annotations

import re
from dataclasses import dataclass

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ExecAbortError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from storage.errors import one_line

_MAX_QUOTE_CHARS = 300
_USER = re.compile(r"\b[Uu]ser (\S+) has no permissions")
_COMMAND = re.compile(r"to run the '([\w|-]+)' command")
_SCRIPT = re.compile(r",? script: ([0-9a-f]{40}|on @).*$")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind of error reply.

    ``problem`` follows "Redis …"; neither it nor ``fix`` contains an address.  ``passes``: it may end by
    itself, so a start waits for it.  ``closes``: this server is the wrong one or cannot serve now, so the
    connection is closed and the next try opens another.  ``demoted``: all connections opened before lead to
    the wrong server.  ``quotes``: the server's message is shown, since it has more detail.
    """

    code: str
    problem: str
    fix: str
    passes: bool = False
    closes: bool = False
    demoted: bool = False
    quotes: bool = False


_CLUSTER = (
    "runs in cluster mode, which spreads the keys of one queue over several servers",
    "use a Redis without cluster mode, or the single endpoint of one that hides its nodes",
)
_CREDENTIALS = (
    "refuses user or password",
    "set them in the URL: redis://USER:PASSWORD@HOST:PORT/0",
)
_REPLICA_FIX = "wait until the failover has ended, or name the primary"

CLUSTER_MODE = Refusal("CROSSSLOT", *_CLUSTER)
"""For a server that reports itself as a node of a cluster."""

_TABLE = {
    refusal.code: refusal
    for refusal in (
        Refusal(
            "READONLY",
            "is a read-only replica",
            _REPLICA_FIX,
            passes=True,
            closes=True,
            demoted=True,
            quotes=True,
        ),
        Refusal(
            "MASTERDOWN",
            "is a replica that has lost its primary",
            _REPLICA_FIX,
            passes=True,
            closes=True,
            demoted=True,
        ),
        Refusal(
            "UNBLOCKED",
            "ended the wait for jobs, as its role has changed",
            _REPLICA_FIX,
            passes=True,
            closes=True,
            demoted=True,
        ),
        Refusal("LOADING", "is loading its data", "wait until it has loaded", passes=True, closes=True),
        Refusal(
            "BUSY",
            "runs a script that does not end",
            "wait for its end, or stop it by SCRIPT KILL",
            passes=True,
        ),
        Refusal(
            "MISCONF",
            "cannot write to its disk, and so refuses writes",
            "free its disk, make its folder writable, and see its log",
            passes=True,
        ),
        Refusal(
            "NOREPLICAS",
            "refuses writes, as it has too few replicas",
            "bring its replicas back, or lower min-replicas-to-write",
            passes=True,
        ),
        Refusal(
            "MAXCLIENTS",
            "has as many clients as it allows",
            "raise its maxclients, or close idle clients",
            passes=True,
            closes=True,
        ),
        Refusal("TRYAGAIN", "is moving its keys", "wait until it has moved them", passes=True),
        Refusal(
            "CLUSTERDOWN",
            "is part of a cluster that is down",
            "wait until the cluster is up; a server in cluster mode itself cannot hold queues",
            passes=True,
            closes=True,
        ),
        Refusal(
            "OOM",
            "is full",
            "wait until the workers have freed memory, raise its maxmemory, or remove keys that are not ours",
        ),
        Refusal("MOVED", *_CLUSTER),
        Refusal("ASK", *_CLUSTER),
        CLUSTER_MODE,
        Refusal("NOPERM", "does not permit our user what is needed", "", quotes=True),
        Refusal("NOAUTH", *_CREDENTIALS, quotes=True),
        Refusal(
            "UNKNOWN",
            "lacks a command that is needed",
            "use Redis 6.2 or newer, or Valkey, and rename no commands there",
            quotes=True,
        ),
        Refusal(
            "WRONGTYPE",
            "holds a value of another type under a key of ours",
            "move that key away: another program has written it, see docs/queues.md for the keys",
            quotes=True,
        ),
        Refusal("EXECABORT", "refused a transaction", "try again, and see the server's log", quotes=True),
        Refusal(
            "DATABASE",
            "has no database of that number",
            "name a lower number in the URL, for instance /0",
            quotes=True,
        ),
    )
}

_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (ReadOnlyError, "READONLY"),
    (MasterDownError, "MASTERDOWN"),
    (BusyLoadingError, "LOADING"),
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "NOAUTH"),
    (AuthorizationError, "NOAUTH"),
    (OutOfMemoryError, "OOM"),
    (ExecAbortError, "EXECABORT"),
    (ClusterCrossSlotError, "CROSSSLOT"),
    (ClusterDownError, "CLUSTERDOWN"),
    (TryAgainError, "TRYAGAIN"),
    (MovedError, "MOVED"),  # and its subclass AskError
)
_CODE = re.compile(
    # At the beginning, or after the words with which Redis 6 reports the error of a script.
    r"(?:^|: -|^-)(READONLY|MASTERDOWN|UNBLOCKED(?= force)|LOADING|BUSY|MISCONF|NOREPLICAS|TRYAGAIN"
    r"|CLUSTERDOWN|OOM|MOVED|ASK|CROSSSLOT|NOPERM|NOAUTH|WRONGPASS|WRONGTYPE|EXECABORT)\b"
)
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"max number of clients", "MAXCLIENTS"),
        (r"ACL failure|can't run this command|no permissions to|access at least one of the keys", "NOPERM"),
        (r"unknown (redis |valkey )?command|unknown subcommand", "UNKNOWN"),
        (r"(script|transaction).*keys? .*(hash|same) slot|not hash to the same slot", "CROSSSLOT"),
        (r"DB index is out of range|invalid DB index", "DATABASE"),
        (r"capacity quota exceeded", "OOM"),
        (r"authentication required|invalid username-password|without any password", "NOAUTH"),
    )
)


def refusal_of(error: BaseException) -> Refusal | None:
    """Return the kind of an error reply; None if the table lacks it, or if the error is not a reply.

    It is recognised by redis-py's class or by the text, since older servers report an error in a script as a
    general one.
    """
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return _TABLE[code]
    text = one_line(error)
    match = _CODE.search(text)
    if match is not None:
        return _TABLE["NOAUTH" if match[1] == "WRONGPASS" else match[1]]
    for pattern, code in _WORDS:
        if pattern.search(text):
            return _TABLE[code]
    return None


class MissingRightError(NoPermissionError):
    """Our user lacks rights that the program needs; ``rules`` of ACL SETUSER grant them."""

    def __init__(self, user: str, action: str, rules: str) -> None:
        super().__init__(f"user {user!r} may not {action}")
        self.fix = f"ACL SETUSER {user} {rules}"


def explain(error: BaseException) -> str:
    """Return why Redis failed, in one line; with its fix and without an address if the table has it."""
    refusal = refusal_of(error)
    if refusal is None:
        return f"Redis: {one_line(error)}"
    return f"Redis {explain_refusal(error, refusal)}"


def explain_refusal(error: BaseException, refusal: Refusal) -> str:
    """Return the refusal and its fix, to follow a server's name: ``is full (OOM): raise its maxmemory``."""
    return f"{_predicate(error, refusal)}: {fix_of(error, refusal)}"


def reason(error: BaseException) -> str:
    """Like `explain`, but with the class of an error that the table lacks."""
    return explain(error) if refusal_of(error) is not None else f"{type(error).__name__}: {error}"


def problem_of(error: BaseException, refusal: Refusal) -> str:
    """Return what happened: ``Redis is full (OOM)``, or with the server's message if that has more detail."""
    return f"Redis {_predicate(error, refusal)}"


def _predicate(error: BaseException, refusal: Refusal) -> str:
    words = _quote(error, refusal) if refusal.quotes else refusal.code
    return f"{refusal.problem} ({words})"


def fix_of(error: BaseException, refusal: Refusal, user: str = "NAME") -> str:
    """Return how to fix it; for a missing right, the rules that grant it to ``user``."""
    if isinstance(error, MissingRightError):
        return error.fix
    if refusal.code != "NOPERM":
        return refusal.fix
    text = one_line(error)
    user_match, command = _USER.search(text), _COMMAND.search(text)
    if command is not None:
        rules = "+eval +evalsha" if command[1] in ("eval", "evalsha") else f"+{command[1]}"
    else:
        rules = "&*" if "channel" in text else "~saq:* ~couturecast:*"
    return f"ACL SETUSER {user_match[1] if user_match else user} {rules}"


def _quote(error: BaseException, refusal: Refusal) -> str:
    """Return the server's message with the code that redis-py cuts off, without the name of a script."""
    text = _SCRIPT.sub("", one_line(error))[:_MAX_QUOTE_CHARS].rstrip(". ")
    is_known = refusal.code in ("UNKNOWN", "DATABASE", "NOAUTH") or text.startswith(refusal.code)
    return text if is_known else f"{refusal.code}: {text}"
