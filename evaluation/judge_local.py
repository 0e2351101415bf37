"""A chat model on this machine as a judge: its score is read off the logits of its first token."""

from collections.abc import Sequence
from typing import Any

import torch

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.teacher import Answer
from xrec_dataset_builder.transformers_teacher import TransformersTeacher

from .judge_answers import choices_of, packed

_BLANKS = " \u2581\u0120"
"""What stands before a word in a vocabulary: a space, SentencePiece's sign for it, and the one of byte-level BPE."""


class TransformersJudge(TransformersTeacher):
    """A language model with a chat template whose next token is looked at and not sampled.

    The digits' probabilities are those of the first token of the answer, each digit with and without a space before it. Their
    expected value does not depend on the batch a question shares (within 1e-5 in float32; half precision rounds more).

    Args:
        model: As for `TransformersTeacher`.
        batch_size: As there.
        device: As there.
        tokenizer: As there.
        revision: As there.

    Attributes:
        revision: The commit of the model on the Hub that was loaded, else as given.

    Raises:
        DataError: The model cannot be loaded, has no chat template, or has no token for a digit.
    """

    def __init__(
        self,
        model: Any,
        batch_size: int = 8,
        device: str | None = None,
        tokenizer: Any = None,
        revision: str | None = None,
    ) -> None:
        super().__init__(model, batch_size, device, tokenizer, revision)
        self.revision: str | None = getattr(self._model.config, "_commit_hash", None) or revision
        self._digits = _digit_tokens(self._tokenizer)

    def _answers(self, batch: Sequence[Any]) -> list[Answer]:
        ids, mask = self._padded(batch)
        with torch.inference_mode():
            made = self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=1, do_sample=False, num_beams=1, temperature=None,
                top_p=None, top_k=None, pad_token_id=self._pad(), output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        self.batches.append(len(batch))
        log_probabilities = made.logits[0].double().log_softmax(-1).cpu()
        return [self._judged(asked, row) for asked, row in zip(batch, log_probabilities, strict=True)]

    def _judged(self, asked: Any, row: torch.Tensor) -> Answer:
        """Say the likeliest of the digits that were asked for."""
        sums = {digit: float(row[self._digits[digit]].logsumexp(0)) for digit in choices_of(asked.request)}
        said = max(sums, key=lambda digit: sums[digit])
        options = [{"token": digit, "logprob": one} for digit, one in sums.items()]
        text, reason = packed(said, "stop", [{"token": said, "top_logprobs": options}])
        return Answer(text, reason, len(asked.ids), 1)


def _digit_tokens(tokenizer: Any) -> dict[str, list[int]]:
    """The tokens that are one digit, with or without a blank before it.

    Raises:
        DataError: A digit that judges are asked for has none.
    """
    found: dict[str, list[int]] = {digit: [] for digit in "12345"}
    for token, number in tokenizer.get_vocab().items():
        if (digit := token.lstrip(_BLANKS)) in found:
            found[digit].append(number)
    if missing := [digit for digit, numbers in found.items() if not numbers]:
        raise DataError(
            f"expected a tokenizer with a token for every digit, found none for {missing[0]}; choose another model"
        )
    return {digit: sorted(numbers) for digit, numbers in found.items()}
