"""Masks secrets in what operations return to be shown.  Letters, jobs and replays keep them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from workers.errors import InvalidJobError

if TYPE_CHECKING:  # the settings import this module: it must not load the engine
    from storage.dead_letters.plans import PlanItem
    from storage.dead_letters.records import DeadLetter, FailureGroup
    from storage.repositories.events import Event
    from workers.operations.job_stacks import JobStack
    from workers.operations.job_views import JobSummary

JobT = TypeVar("JobT", bound="JobSummary")

MASK: Final = "***"
DEFAULT_SECRET_FIELDS: Final = (
    *("password", "passwd", "passphrase", "secret", "token", "api_key", "access_key", "private_key"),
    *("authorization", "credential", "cookie"),
)
_MAX_DEPTH = 200
"""Nesting of a payload below which nothing is shown: our producers take half of that."""
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|(?:(?:Bearer|Basic|Token)\s+)?[^\s,;&'")\]}\\]+)"""
_SCHEMA_ERROR = (
    r"(?!(?:extra inputs|field required|input should|value error|unable to"
    r"|(?:bytes|data|dictionary|list|object|set|string|tuple|url|value) (?:should|has))\b)"
)
"""The text after a field's name if its value breaks the queue's schema: no secret."""
_SCHEME = re.compile(r"\b(Bearer|Basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^\s:/@]{0,200}:)[^\s@/]{1,500}@")


class SecretMask:
    """Finds secrets by the names of fields: those that contain one of the words, whatever their case.

    An underscore in a word also stands for a hyphen, a space, or nothing: ``api_key`` finds ``X-Api-Key``.
    """

    def __init__(self, words: Iterable[str] = DEFAULT_SECRET_FIELDS) -> None:
        self._words = tuple(_plain(word) for word in words if _plain(word))
        names = "|".join(re.escape(word).replace("_", "[-_ ]?") for word in words if _plain(word))
        name = rf"(?:{names})[\w-]{{0,40}}\\*[\"']?\s{{0,3}}[:=]\s{{0,3}}\\*"
        self._assignment = re.compile(rf"({name})({_SCHEMA_ERROR}{_VALUE})", re.IGNORECASE)

    def is_secret(self, name: str) -> bool:
        """Return whether the value of a field with this name is masked."""
        plain = _plain(name)
        return any(word in plain for word in self._words)

    def text(self, text: str) -> str:
        """Return a text without the secrets that it names: ``password=…``, ``"token": …``, and of URLs."""
        lowered = text.lower()
        if "://" in lowered and "@" in lowered:
            text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
        if "bearer" in lowered or "basic" in lowered:
            text = _SCHEME.sub(rf"\1\2{MASK}", text)
        plain = lowered.replace("_", "").replace("-", "").replace(" ", "")
        if any(word in plain for word in self._words):
            text = self._assignment.sub(rf"\1{MASK}", text)
        return text

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value of JSON with a mask in place of each secret."""
        masked = value
        if isinstance(value, str):
            masked = self.text(value)
        elif depth > _MAX_DEPTH:
            masked = MASK
        elif isinstance(value, Mapping):
            masked = {
                name: MASK if _is_set(part) and self.is_secret(str(name)) else self.value(part, depth + 1)
                for name, part in value.items()
            }
        elif isinstance(value, list | tuple):
            masked = type(value)(self.value(part, depth + 1) for part in value)
        return masked

    def group(self, group: FailureGroup) -> FailureGroup:
        """Return a group as it is shown."""
        return replace(group, sample=self.letter(group.sample))

    def letter(self, letter: DeadLetter) -> DeadLetter:
        """Return a letter as it is shown."""
        return replace(
            letter,
            job_data=self.value(letter.job_data),
            error_message=self.text(letter.error_message),
            traceback=None if letter.traceback is None else self.text(letter.traceback),
            attempt_errors=self.value(letter.attempt_errors),
        )

    def job(self, job: JobT) -> JobT:
        """Return a job as it is shown: its payload, result, meta, errors and log."""
        own = {field.name: getattr(job, field.name) for field in fields(job)}
        names = ("error", "payload", "result", "meta", "traceback", "unreadable")
        masked = {name: self.value(own[name]) for name in names if own.get(name) is not None}
        if own.get("attempts"):
            masked["attempts"] = [
                replace(
                    attempt,
                    message=self.text(attempt.message),
                    traceback=None if attempt.traceback is None else self.text(attempt.traceback),
                    log=self.value(tuple(attempt.log)),
                )
                for attempt in own["attempts"]
            ]
        return replace(job, **masked)

    def stack(self, stack: JobStack) -> JobStack:
        """Return a stack with its log lines as they are shown."""
        return replace(stack, log=[self.text(line) for line in stack.log])

    def replay(self, item: PlanItem) -> PlanItem:
        """Return a replayed letter of a plan as it is shown."""
        note = None if item.note is None else self.text(item.note)
        return replace(item, note=note, kwargs=self.value(item.kwargs))

    def event(self, event: Event) -> Event:
        """Return an event as it is shown."""
        return replace(event, message=self.text(event.message), detail=self.value(event.detail))

    def restore(self, edited: Any, original: Any, path: str = "") -> Any:
        """Return an edited payload with the secrets of the original in place of their masks.

        Raises InvalidJobError for a mask of which the original has no secret: it must never be enqueued.
        """
        if isinstance(edited, dict) and isinstance(original, dict):
            return {name: self._restore_field(edited, original, name, path) for name in edited}
        if isinstance(edited, list) and isinstance(original, list):
            return [
                self._restore_item(item, original, f"{path}[{index}]", index)
                for index, item in enumerate(edited)
            ]
        if isinstance(original, str) and edited == self.text(original):
            return original
        if any(self._stands_for_a_secret(text) for text in _masks(edited)):
            raise InvalidJobError(
                f"{MASK} stands for a secret that is not known here: write its value", field=path
            )
        return edited

    def _stands_for_a_secret(self, text: str) -> bool:
        """Return whether a mask in the text is alone, or where a secret would be.

        Any text may have three stars.
        """
        unmasked = text.replace(MASK, "x" * 12)
        return text == MASK or self.text(unmasked) != unmasked

    def _restore_field(self, edited: Any, original: Any, name: str, path: str) -> Any:
        where = f"{path}.{name}" if path else name
        if name in original and edited[name] == MASK and self.is_secret(name) and _is_set(original[name]):
            return original[name]
        return self.restore(edited[name], original.get(name), where)

    def _restore_item(self, item: Any, original: Sequence[Any], path: str, index: int) -> Any:
        """Return the item of which all that is shown is the same: others may have been moved or removed."""
        if not any(True for _ in _masks(item)):
            return item
        alike = [secret for secret in original if _json(self.value(secret)) == _json(item)]
        if index < len(original) and original[index] in alike:
            return original[index]
        if len({_json(secret) for secret in alike}) == 1:
            return alike[0]
        return self.restore(item, None, path)


def _masks(value: Any) -> Iterator[str]:
    if isinstance(value, str) and MASK in value:
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _masks(part)
    elif isinstance(value, list):
        for part in value:
            yield from _masks(part)


def _json(value: Any) -> str:
    """Return JSON for a comparison by which 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True, default=repr)


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.lower())


def _is_set(value: Any) -> bool:
    """Return whether there is a secret: no value shows none."""
    return value is not None and value != "" and not isinstance(value, bool)


DEFAULT_MASK: Final = SecretMask()
