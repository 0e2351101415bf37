"""The judges: a model behind an OpenAI-compatible endpoint, or a chat model on this machine. They ask as teachers do."""

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.openai_teacher import OPTIONAL, OpenAITeacher
from xrec_dataset_builder.teacher import Answer, Request

from .judge_answers import packed

if TYPE_CHECKING:
    from xrec_dataset_builder.teacher import Teacher

JUDGES = ("openai", "transformers")
TOP_LOGPROBS = 20
"""Alternatives asked for at each token; OpenAI's most. Digits are among them unless the judge is sure of another answer."""


class OpenAIJudge(OpenAITeacher):
    """A model behind an endpoint, asked for the log-probabilities of what it might have said.

    An endpoint that refuses `logprobs` or `top_logprobs` is asked without both from then on, and its digits count as they are.

    Args:
        base_url: As for `OpenAITeacher`, which also says how the key is read.
        concurrency: As there.
        top_logprobs: Alternatives asked for at each token; 0 asks for no probabilities.

    Raises:
        DataError: As there, or `top_logprobs` is out of range.
    """

    optional = {"top_logprobs": None, "logprobs": None, **OPTIONAL}

    def __init__(self, base_url: str | None = None, concurrency: int = 8, top_logprobs: int = TOP_LOGPROBS) -> None:
        if not 0 <= top_logprobs <= TOP_LOGPROBS:
            raise DataError(f"expected top_logprobs from 0 to {TOP_LOGPROBS}, found {top_logprobs}; choose another")
        super().__init__(base_url, concurrency)
        self._top = top_logprobs

    def fields(self, request: Request, unknown: Collection[str]) -> dict[str, Any]:
        """What is sent; see `OpenAITeacher`."""
        fields = super().fields(request, unknown)
        if self._top and not {"logprobs", "top_logprobs"} & set(unknown):  # one is no use without the other
            fields |= {"logprobs": True, "top_logprobs": self._top}
        return fields

    def read(self, body: bytes) -> Answer:
        """What the body of a chat completion says, packed by `judge_answers.packed`."""
        answer = super().read(body)
        found = json.loads(body)
        content = (found["choices"][0].get("logprobs") or {}) if isinstance(found["choices"][0], dict) else {}
        tokens = content.get("content") if isinstance(content, dict) else None
        names = (found.get(name) for name in ("model", "system_fingerprint"))
        model, fingerprint = (name if isinstance(name, str) else "" for name in names)
        listed = tokens if isinstance(tokens, list) else []
        text, reason = packed(answer.text, answer.finish_reason, listed, model, fingerprint)
        return Answer(text, reason, answer.prompt_tokens, answer.completion_tokens)


def make_judge(
    kind: str,
    model: str,
    base_url: str | None = None,
    concurrency: int = 8,
    revision: str | None = None,
    top_logprobs: int = TOP_LOGPROBS,
) -> "Teacher":
    """Make a judge.

    Args:
        kind: One of `JUDGES`.
        model: Its model; loaded here by `transformers`.
        base_url: The endpoint of `openai`; OpenAI's own where None. The key is in the environment variable OPENAI_API_KEY.
        concurrency: Connections, or questions in a batch.
        revision: Commit, tag or branch of a model on the Hub. An endpoint cannot be told; there it is only recorded.
        top_logprobs: See `OpenAIJudge`.

    Raises:
        DataError: The kind is not known, or model, endpoint or key cannot be used.
    """
    if kind not in JUDGES:
        raise DataError(f"expected a judge among {', '.join(JUDGES)}, found {kind!r}; choose one")
    if kind == "openai":
        return OpenAIJudge(base_url, concurrency, top_logprobs)
    from .judge_local import TransformersJudge

    return TransformersJudge(model, batch_size=concurrency, revision=revision)
