"""Approves, rejects, or hands to a person a piece of user content."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from couturecast_handlers import PermanentError
from storage.repositories.moderation import Decision, ModerationRepository
from workers.engine.policy import MODERATION
from workers.handlers.base import Handler, JobContext, Payload
from workers.handlers.lazy_http import LazyHttpClient

MAX_TEXT_CHARS = 5000
_TIMEOUT_SECONDS = 20.0  # for each of connecting and reading
_ANSWER_SECONDS = 60.0  # for all of it, within the job's 120 s
_MAX_BYTES = 1_000_000  # of the service's answer
_SENT = ("http://", "https://", "data:")  # images that a service can fetch; it cannot read our files

# Every repetition has a limit, so that no text makes a search slow.
_DOT = r"(?:\.|\s?[\[({]\s?(?:dot|\.)\s?[\])}]\s?)"
_AT_SIGN = r"(?:\s?@\s?|\s?[\[({]\s?at\s?[\])}]\s?)"
_DOMAINS = (  # not those that are English words (it, to, me, top): "love it.to be worn" is not a link
    "com|net|org|info|biz|io|co|app|shop|store|online|xyz|"
    "ru|de|fr|es|pt|uk|nl|eu|br|ch|pl|dk|se|fi|cz|ie|ca|jp|cn|ly|gg|tv"
)
_LINK = re.compile(
    r"(?i)\bh(?:tt|xx)ps?:/|\bwww\.\S"
    rf"|\b[a-z0-9-]{{1,63}}{_DOT}(?:{_DOMAINS})\b"
    r"|\b[a-z0-9-]{1,63}\sdot\s(?:com|net|org)\b"
    r"|\b[a-z0-9-]{1,63}\.[a-z]{2,24}/\w"
)
_ADDRESS = re.compile(
    rf"(?i)[\w.+-]{_AT_SIGN}[\w-]{{1,63}}{_DOT}\w{{2}}|\w\sat\s[\w-]{{1,63}}(?:\sdot\s|\s?[\[({{]dot[\])}}]\s?)\w{{2}}"
)
_LONG_NUMBER = re.compile(r"(\d{20})\d+")  # the word list takes time by the square of its length
_GARMENTS = ["nude", "panties", "panty", "sexy"]  # a colour, garments and a cut here; on the word list there
_REGIONS = ("US", "GB", "PT", "ES", "FR", "DE", "IT", "BR", "IN", "AU")
"""Countries whose phone numbers are known without +.  None has eight digits: ``36 38 40 42`` would be one."""

_AS_SEEN: dict[int, str | None] = {
    **{wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)},  # full-width ASCII
    **dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF]),
}
"""Characters that show as another one, or not at all."""


class ServiceUnavailableError(Exception):
    """The moderation service did not answer as it should; another attempt may succeed."""


class ModerationPayload(Payload):
    """A piece of content: exactly one of text and image."""

    content_id: str = Field(min_length=1, max_length=200)
    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_CHARS)
    image: str | None = Field(default=None, min_length=1, max_length=1_000_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError("exactly one of text and image is needed")
        return self


class ModerationResult(BaseModel):
    """The decision and its reasons."""

    content_id: str
    decision: Literal["approved", "rejected", "needs_human"]
    reasons: list[str]
    decided_by: Literal["rules", "service"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the rules for a text; ``doubtful`` if they are not sure."""

    rejected: list[str]
    doubtful: list[str]


class ModerationService:
    """An endpoint with the schema of OpenAI's moderations (https://platform.openai.com/docs/api-reference/moderations)."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url
        self._http = LazyHttpClient(allow_private_addresses=True, timeout=_TIMEOUT_SECONDS, headers=headers)

    async def flagged(self, payload: ModerationPayload) -> list[str]:
        """Return the categories of the content; none if it is harmless."""
        content: Any = payload.text
        if payload.image is not None:
            content = [{"type": "image_url", "image_url": {"url": payload.image}}]
        http = await self._http.open()
        import httpx

        from workers.handlers import http_client as net

        try:
            status, body = await net.request_limited(
                http,
                "POST",
                self._url,
                json={"input": content},
                max_bytes=_MAX_BYTES,
                seconds=_ANSWER_SECONDS,
            )
        except (httpx.HTTPError, TimeoutError) as error:
            raise ServiceUnavailableError(
                f"the moderation service does not answer: {type(error).__name__}"
            ) from None
        if net.is_retryable(status):
            raise ServiceUnavailableError(f"{status} from the moderation service")
        if status != 200:
            raise PermanentError(f"{status} from the moderation service")
        try:
            result = json.loads(body)["results"][0]
            categories = [name for name, flagged in result["categories"].items() if flagged]
            return categories or (["flagged"] if result["flagged"] else [])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise ServiceUnavailableError("the moderation service's answer cannot be read") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class ModerationHandler(Handler[ModerationPayload, ModerationResult]):
    """Rules decide clear texts; ``service``, if any, decides doubtful texts and images."""

    queue: ClassVar[str] = MODERATION
    payload_model = ModerationPayload

    def __init__(self, store: ModerationRepository, service: ModerationService | None = None) -> None:
        self._store = store
        self._service = service

    async def run(self, payload: ModerationPayload, context: JobContext) -> ModerationResult:
        """Decide, and store the decision with its reasons."""
        result = await self._decide(payload)
        await self._store.upsert(
            Decision(result.content_id, result.decision, result.reasons, result.decided_by)
        )
        return result

    async def close(self) -> None:
        """Close the service's connections."""
        if self._service is not None:
            await self._service.close()

    async def _decide(self, payload: ModerationPayload) -> ModerationResult:
        if payload.text is None:
            verdict = Verdict([], ["an image"])
        else:
            verdict = await asyncio.to_thread(judge, payload.text)  # up to half a second for a long text
        result = ModerationResult(
            content_id=payload.content_id, decision="approved", reasons=[], decided_by="rules"
        )
        if verdict.rejected:
            return result.model_copy(
                update={"decision": "rejected", "reasons": verdict.rejected + verdict.doubtful}
            )
        if not verdict.doubtful:
            return result
        if self._service is None or not _can_be_sent(payload):
            return result.model_copy(update={"decision": "needs_human", "reasons": verdict.doubtful})
        categories = await self._service.flagged(payload)
        decision = "rejected" if categories else "approved"
        return result.model_copy(
            update={"decision": decision, "reasons": categories or verdict.doubtful, "decided_by": "service"}
        )


def _can_be_sent(payload: ModerationPayload) -> bool:
    return payload.image is None or payload.image.lower().startswith(_SENT)


def judge(text: str) -> Verdict:
    """Judge ``text`` by the word lists, and by the rules for links, addresses and phone numbers."""
    text = text.translate(_AS_SEEN)
    rejected, doubtful = _words(text)
    if _LINK.search(text):
        doubtful.append("a link")
    if _ADDRESS.search(text):
        doubtful.append("an e-mail address")
    if _has_phone_number(text):
        doubtful.append("a phone number")
    return Verdict(rejected, doubtful)


def _words(text: str) -> tuple[list[str], list[str]]:
    """Return clear and doubtful words: those of the list as they stand, and those behind disguises."""
    plain, disguised = _filters()
    text = _LONG_NUMBER.sub(r"\1", text)
    clear = plain.check_profanity(text)
    if clear["contains_profanity"]:
        return [f"profanity: {word}" for word in sorted(set(clear["profane_words"]))], []
    hidden = disguised.check_profanity(text)
    if hidden["contains_profanity"]:
        return [], ["possibly disguised profanity"]
    return [], []


@cache
def _filters() -> tuple[Any, Any]:
    from glin_profanity import Filter  # slow to import, and only this handler needs it

    words = {"languages": ["english"], "ignore_words": _GARMENTS}
    return Filter(words), Filter({**words, "detect_leetspeak": True})


def _has_phone_number(text: str) -> bool:
    if sum(map(str.isdigit, text)) < 7:
        return False
    import phonenumbers  # a large table, and few texts need it

    usual = phonenumbers.Leniency.STRICT_GROUPING  # sizes in a row are grouped as no number is
    return any(phonenumbers.PhoneNumberMatcher(text, region, usual).has_next() for region in _REGIONS)
