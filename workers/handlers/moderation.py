"""Approves, rejects, or hands to a person a piece of user content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Self

import httpx
from pydantic import BaseModel, Field, model_validator

from storage.moderation import Decision, ModerationStore
from workers import net
from workers.errors import PermanentError
from workers.handlers.base import Handler, JobContext, Payload
from workers.policy import MODERATION

MAX_TEXT = 5000
_TIMEOUT = 20.0  # s, for each of connecting and reading
_LINK = re.compile(
    r"(?i)\b(?:https?://|www\.)\S+|\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|net|org|info|biz|io|shop|xyz|ru|co)\b"
)
_ADDRESS = re.compile(r"(?i)\b[\w.+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)+")


class ServiceUnavailableError(Exception):
    """The moderation service did not answer as it should; another attempt may succeed."""


class ModerationPayload(Payload):
    """A piece of content: exactly one of text and image."""

    content_id: str = Field(min_length=1, max_length=200)
    text: str | None = Field(default=None, min_length=1)
    image: str | None = Field(default=None, min_length=1, max_length=1_000_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.image is None):
            raise ValueError("exactly one of text and image is needed")
        if self.text is not None and len(self.text) > MAX_TEXT:
            raise ValueError(f"text: longer than {MAX_TEXT} characters")
        return self


class ModerationResult(BaseModel):
    """The decision and its reasons."""

    content_id: str
    decision: Literal["approved", "rejected", "needs_human"]
    reasons: list[str]
    decided_by: Literal["rules", "service"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of a text; ``doubtful`` where they cannot say for sure."""

    rejected: list[str]
    doubtful: list[str]


class ModerationService:
    """An endpoint with the schema of OpenAI's moderations (https://platform.openai.com/docs/api-reference/moderations)."""

    def __init__(self, url: str, key: str | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url = url
        self._http = net.client(allow_private_addresses=True, timeout=_TIMEOUT, headers=headers)

    async def flagged(self, payload: ModerationPayload) -> list[str]:
        """The categories that the content falls into; none where it is harmless."""
        content: Any = payload.text
        if payload.image is not None:
            content = [{"type": "image_url", "image_url": {"url": payload.image}}]
        try:
            response = await self._http.post(self._url, json={"input": content})
        except httpx.HTTPError as error:
            raise ServiceUnavailableError(
                f"the moderation service does not answer: {type(error).__name__}"
            ) from None
        if response.status_code == 429 or response.status_code >= 500:
            raise ServiceUnavailableError(f"{response.status_code} from the moderation service")
        if not response.is_success:
            raise PermanentError(f"{response.status_code} from the moderation service")
        try:
            result = response.json()["results"][0]
            categories = [name for name, found in result["categories"].items() if found]
            return categories or (["flagged"] if result["flagged"] else [])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise ServiceUnavailableError("the moderation service's answer cannot be read") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class ModerationHandler(Handler[ModerationPayload, ModerationResult]):
    """Rules decide clear texts; ``service``, where there is one, decides doubtful texts and images."""

    queue: ClassVar[str] = MODERATION
    payload_model = ModerationPayload

    def __init__(self, store: ModerationStore, service: ModerationService | None = None) -> None:
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
        verdict = Verdict([], ["an image"]) if payload.text is None else judge(payload.text)
        result = ModerationResult(
            content_id=payload.content_id, decision="approved", reasons=[], decided_by="rules"
        )
        if verdict.rejected:
            return result.model_copy(
                update={"decision": "rejected", "reasons": verdict.rejected + verdict.doubtful}
            )
        if not verdict.doubtful:
            return result
        if self._service is None:
            return result.model_copy(update={"decision": "needs_human", "reasons": verdict.doubtful})
        found = await self._service.flagged(payload)
        decision = "rejected" if found else "approved"
        return result.model_copy(
            update={"decision": decision, "reasons": found or verdict.doubtful, "decided_by": "service"}
        )


def judge(text: str) -> Verdict:
    """What the word lists and the rules for links, addresses and phone numbers say of ``text``."""
    rejected, doubtful = _words(text)
    if _LINK.search(text):
        doubtful.append("a link")
    if _ADDRESS.search(text):
        doubtful.append("an e-mail address")
    if _has_phone_number(text):
        doubtful.append("a phone number")
    return Verdict(rejected, doubtful)


def _words(text: str) -> tuple[list[str], list[str]]:
    """Words of the list as they stand are clear; those found only behind disguises are doubtful."""
    plain, disguised = _filters()
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

    return Filter({"languages": ["english"]}), Filter({"languages": ["english"], "detect_leetspeak": True})


def _has_phone_number(text: str) -> bool:
    if sum(map(str.isdigit, text)) < 7:
        return False
    import phonenumbers  # a large table, and few texts need it

    return any(phonenumbers.PhoneNumberMatcher(text, region) for region in ("US", "GB", "PT"))
