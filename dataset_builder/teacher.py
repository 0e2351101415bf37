"""What a question to a teacher and its answer are, and what may go wrong between them."""

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol

KINDS = ("item_profile", "user_profile", "explanation")
"""What a teacher is asked for."""


@dataclass(frozen=True)
class Request:
    """One question to a teacher.

    Args:
        kind: one of `KINDS`; who asks for something else names it otherwise.
        key: the row it is for, `(item_id,)`, `(user_id,)` or `(user_id, item_id)`; two rows may ask the same question.
        messages: `(role, content)` pairs, as chat models take them.
        schema: JSON schema of the answer as canonical JSON text; empty for free text.
        teacher: the teacher's name.
        model: the model it runs.
        prompt_version: of the template that wrote the messages.
        temperature: of sampling; 0 for the likeliest answer.
        max_tokens: most tokens of the answer.
        seed: of sampling, where the teacher takes one.
    """

    kind: str
    key: tuple[str, ...]
    messages: tuple[tuple[str, str], ...]
    schema: str
    teacher: str
    model: str
    prompt_version: str
    temperature: float
    max_tokens: int
    seed: int

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything but the key, in hexadecimal: what the journal files the answer under."""
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "key"}
        text = json.dumps(content | {"temperature": float(self.temperature)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What a teacher said.

    Args:
        text: the answer as it came.
        finish_reason: why it ended, in the words of OpenAI's protocol: `stop`, `length`, `content_filter`; others may occur.
        prompt_tokens: tokens of the question, 0 where the teacher does not count.
        completion_tokens: tokens of the answer, 0 where the teacher does not count.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Teacher(Protocol):
    """Who answers: a model behind an endpoint, or one on this machine."""

    name: str

    async def answer(self, request: Request) -> Answer:
        """Answer one question; called many times at once.

        Raises:
            TeacherBusy: not now; asked again later.
            TeacherError: this question cannot be answered.
            DataError: no question will be answered, such as with a wrong key: the run ends, what is recorded stays.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and tasks, in the event loop that `answer` ran in.

        `asking.ask` calls it at its end. A teacher may be asked again afterwards, in another event loop, so that what is
        dear to load, a model's weights, may stay.
        """
        ...


class TeacherError(Exception):
    """A question that cannot be answered; it fails its row, and the next run asks again.

    The message is one line and holds neither the question nor a key.
    """


class TeacherBusy(TeacherError):  # noqa: N818 (a state, which ends)
    """A question that cannot be answered now: too many requests, a server error, a timeout, a broken body.

    Args:
        message: what happened, one line.
        retry_after: seconds the endpoint asks to wait, None where it names none.
        alive: the endpoint works and only asks for patience; a row of these is no sign that it is down.
    """

    def __init__(self, message: str, retry_after: float | None = None, alive: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.alive = alive


class Rejected(Exception):  # noqa: N818 (a verdict on an answer)
    """An answer that is not usable; raised by whoever checks answers, with the reason as the message."""
