"""A chat model on this machine as a teacher: what is asked at the same time is answered in one batch."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor, LogitsProcessorList

from .errors import DataError
from .teacher import Answer, Request, TeacherError

GATHER_SECONDS = 0.02
"""How long a batch waits for more questions."""


@dataclass
class _Asked:
    request: Request
    ids: list[int]
    answer: "asyncio.Future[Answer]"


class TransformersTeacher:
    """A language model with a chat template, loaded by `transformers`.

    At temperature 0 it says the likeliest answer. Above, every question is sampled with its own random numbers, from its hash
    (and so its seed), so that an answer does not depend on the questions it shares a batch with.

    Args:
        model: name on the Hub or folder of a causal language model, or a loaded one.
        batch_size: most questions answered at once.
        device: where a named model is loaded to; None for the first accelerator, else the processor.
        tokenizer: its tokenizer; needed with a loaded model.
        revision: commit, tag or branch of a model on the Hub; None for the newest.

    Attributes:
        batches: the sizes of the batches so far.

    Raises:
        DataError: the model cannot be loaded, or its tokenizer has no chat template.
    """

    name = "transformers"

    def __init__(
        self,
        model: Any,
        batch_size: int = 8,
        device: str | None = None,
        tokenizer: Any = None,
        revision: str | None = None,
    ) -> None:
        if isinstance(model, str):
            model, tokenizer = _load(model, device, revision)
        if getattr(tokenizer, "chat_template", None) is None:
            raise DataError(
                "expected a chat model, found a tokenizer without a chat template; choose an instruction-tuned model"
            )
        self.batch_size = batch_size
        self.batches: list[int] = []
        self._model, self._tokenizer = model.eval(), tokenizer
        self._positions = getattr(model.config, "max_position_embeddings", None)
        control = [token for token in _control_tokens(tokenizer) if len(token) > 1]
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)")
        self._waiting: list[_Asked] = []
        self._running: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="teacher")

    async def answer(self, request: Request) -> Answer:
        """Answer one question together with the others that wait.

        Raises:
            TeacherError: the question does not fit into the model.
        """
        asked = _Asked(request, self._encoded(request), asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        return await asked.answer

    async def close(self) -> None:
        """Let the last batch end; the model stays as long as this object, for the next round of questions."""
        if self._running is not None and not self._running.done():
            await asyncio.wait([self._running])

    def _encoded(self, request: Request) -> list[int]:
        # Only the first turn is ours alone; in the others, a control token of this model would be one.
        (role, first), *others = request.messages
        messages = [{"role": role, "content": first}]
        messages += [{"role": role, "content": self._control.sub(_broken, content)} for role, content in others]
        text = self._templated(messages)
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if self._positions is not None and len(ids) + request.max_tokens > self._positions:
            raise TeacherError(
                f"the question has {len(ids)} tokens and its answer up to {request.max_tokens}, more than the model's "
                f"{self._positions}"
            )
        return ids

    def _templated(self, messages: list[dict[str, str]]) -> str:
        """The question as the model reads it; where its template refuses a system turn, that goes before the first one."""
        system, first, *others = messages
        merged = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
        failure = None
        for turns in (messages, [merged, *others]):
            try:
                return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            except Exception as error:  # a template may raise what it likes
                failure = error
        raise TeacherError(f"the chat template failed: {type(failure).__name__}")

    async def _work(self) -> None:
        """Answer batches until nothing waits."""
        while True:
            await asyncio.sleep(GATHER_SECONDS)
            self._waiting = [asked for asked in self._waiting if not asked.answer.done()]
            if not self._waiting:
                return
            batch = self._next_batch()
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._answers, batch)
            except Exception as error:  # whatever it is, the questions of this batch get it
                first = (str(error).splitlines() or [""])[0][:200]
                failure = TeacherError(f"the model failed: {type(error).__name__}: {first}")
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(failure)
                continue
            for asked, answer in zip(batch, answers, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(answer)

    def _next_batch(self) -> list[_Asked]:
        """Take the oldest question and those most like it in length that have the same limit and temperature."""
        first = self._waiting[0]
        alike = [
            asked
            for asked in self._waiting
            if (asked.request.max_tokens, asked.request.temperature) == (first.request.max_tokens, first.request.temperature)
        ]
        alike.sort(key=lambda asked: (asked is not first, abs(len(asked.ids) - len(first.ids))))
        batch = alike[: self.batch_size]
        chosen = {id(asked) for asked in batch}
        self._waiting = [asked for asked in self._waiting if id(asked) not in chosen]
        return batch

    def _answers(self, batch: Sequence[_Asked]) -> list[Answer]:
        ids, mask = self._padded(batch)
        requests = [asked.request for asked in batch]
        temperature = requests[0].temperature
        processors = LogitsProcessorList([_OwnNoise(requests)] if temperature > 0 else [])
        ends = self._ends()
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=requests[0].max_tokens,
                do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None, pad_token_id=self._pad(),
                eos_token_id=sorted(ends) or None, logits_processor=processors,
            )  # fmt: skip
        self.batches.append(len(batch))
        rows = zip(batch, made[:, ids.shape[1] :].tolist(), strict=True)
        return [self._said(asked, row, ends) for asked, row in rows]

    def _padded(self, batch: Sequence[_Asked]) -> tuple[torch.Tensor, torch.Tensor]:
        """The questions' tokens, padded on the left, and their mask, each `(batch, length)`, on the model's device."""
        longest, pad, device = max(len(asked.ids) for asked in batch), self._pad(), self._model.device
        ids = torch.tensor([[pad] * (longest - len(asked.ids)) + asked.ids for asked in batch])
        mask = torch.tensor([[0] * (longest - len(asked.ids)) + [1] * len(asked.ids) for asked in batch])
        return ids.to(device), mask.to(device)

    def _said(self, asked: _Asked, row: list[int], ends: set[int]) -> Answer:
        length = next((place for place, token in enumerate(row) if token in ends), len(row))
        stopped = length < len(row)
        text = self._tokenizer.decode(row[:length], skip_special_tokens=True)
        return Answer(text, "stop" if stopped else "length", len(asked.ids), length + stopped)

    def _ends(self) -> set[int]:
        end = self._model.generation_config.eos_token_id
        ends = {end} if isinstance(end, int) else set(end or ())
        return ends | ({self._tokenizer.eos_token_id} - {None})

    def _pad(self) -> int:
        pad = self._tokenizer.pad_token_id
        return pad if pad is not None else min(self._ends(), default=0)


class _OwnNoise(LogitsProcessor):
    """Turns the likeliest token into a sampled one: Gumbel noise, drawn for each question from its own generator.

    Args:
        requests: the questions of a batch.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.temperature = requests[0].temperature
        self.generators = [torch.Generator().manual_seed(_seed(request)) for request in requests]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Add the noise.

        Args:
            input_ids: `(batch, length)`.
            scores: logits, `(batch, vocabulary)`.
        """
        size = scores.shape[-1]
        uniform = torch.stack([torch.rand(size, generator=one, dtype=torch.float64) for one in self.generators])
        gumbel = -torch.log(-torch.log(uniform.clamp_min(1e-300)))
        return scores.float() / self.temperature + gumbel.to(scores.device, torch.float32)


def _control_tokens(tokenizer: Any) -> set[str]:
    """Special tokens, and added ones in brackets of some kind."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return set(tokenizer.all_special_tokens) | {token for token in added if re.fullmatch(r"[^\w\s].*\w.*[^\w\s]", token)}


def _broken(match: re.Match[str]) -> str:
    return f"{match.group()[0]} {match.group()[1:]}"


def _seed(request: Request) -> int:
    return int.from_bytes(hashlib.sha256(request.hash.encode("ascii")).digest()[:8], "big") >> 1


def _load(name: str, device: str | None, revision: str | None = None) -> tuple[Any, Any]:
    place = device or (torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", revision=revision)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["nothing"])[0]
        raise DataError(f"{name}: expected a causal language model with its tokenizer, found: {reason}") from error
    return model.to(place), tokenizer
