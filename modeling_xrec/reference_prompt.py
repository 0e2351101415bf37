"""The prompt and labels of the paper's own code, for `recipes/paper.yaml` only.

They are what HKUDS/XRec (commit 79e2cd4, `explainer/utils/data_handler.py` and `explainer/models/explainer.py`) makes, its
defects included: the beginning-of-sequence token stands twice; the model reads `<EXPLAIN_POS> explanation[/INST]` in training
and is asked after `<EXPLAIN_POS>[/INST]`, which it has never seen; `<EXPLAIN_POS>` and `[/INST]` are labels; the
end-of-sequence token is not. Unlike there, texts are one line each and cannot hold control tokens, padding is no label, and
answers are cut where the template ends (there: at the first `[`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .prompt_layout import TEXT_FIELDS, Prompt, PromptLayout

REFERENCE_MARKERS = {"user_marker": "<USER_EMBED>", "item_marker": "<ITEM_EMBED>", "explain_marker": "<EXPLAIN_POS>"}
_WHOLE_TEXT = re.compile(r".*\{explain_marker\} ?\{explanation\}[^{}]*", re.DOTALL)


class ReferenceLayout(PromptLayout):
    """A template that is the whole training text: it ends with `{explain_marker} {explanation}` and what closes them.

    The prompt of generation is the same text with an empty explanation, and without the space before it. The template holds
    its chat-control strings itself; the tokenizer's chat template is not used.

    Args:
        tokenizer: as in `PromptLayout`, as are the others.
        template: fields as there, and `{explain_marker}` and `{explanation}`, once each and last.
        markers: with the explain marker.

    Attributes:
        closing: what the template has after the explanation; generated answers end before it.

    Raises:
        ValueError: as in `PromptLayout`, or a template that does not end as above.
    """

    text_fields = (*TEXT_FIELDS, "explanation")

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, markers: Mapping[str, tuple[str, int]]) -> None:
        if not _WHOLE_TEXT.fullmatch(template) or template.count("{explanation}") != 1:
            raise ValueError(
                "expected a prompt of prompt_style='reference' to end with '{explain_marker} {explanation}' and what closes "
                f"them, such as [/INST], found {template[-60:]!r}; take the one of recipes/paper.yaml."
            )
        super().__init__(tokenizer, template, markers)
        self.closing = self.literals[-1].strip()

    @staticmethod
    def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str, list[str]]:
        """The beginning-of-sequence token as the reference has it: written out, before the one the tokenizer adds."""
        bos = tokenizer.bos_token or ""
        adds_bos = bool(bos) and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
        return bos * (2 if adds_bos else 1), "", []

    def build(
        self,
        tokenizer: PreTrainedTokenizerBase,
        values: Mapping[str, Any],
        max_profile_tokens: int,
        max_prompt_tokens: int | None,
    ) -> Prompt:
        """As in `PromptLayout`, of a training text where there is an explanation; `max_prompt_tokens` must be None."""
        if max_prompt_tokens is not None:
            raise ValueError(
                f"expected max_prompt_tokens=None with prompt_style='reference', found {max_prompt_tokens}: there, prompt and "
                "answer are one text; leave it out."
            )
        return super().build(tokenizer, values, max_profile_tokens, None)

    def _pieces(self, texts: Mapping[str, str]) -> list[str]:
        """As the reference joins them: the space before an empty value stays, but for that before the explanation."""
        literals = self.literals
        if not texts["explanation"]:
            literals = [*literals[:-2], literals[-2].removesuffix(" "), literals[-1]]
        pairs = zip(literals, (texts[field] for field in self.fields), strict=False)
        return [piece for pair in pairs for piece in pair] + literals[-1:]

    def read_answers(self, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated answers, each up to the closing: all of it where the model has not written one."""
        if not self.closing:
            return super().read_answers(tokenizer, rows)
        closing = tokenizer.convert_tokens_to_ids(self.closing)
        rows = [list(row) for row in rows]
        if closing in self.control_ids:  # one token, which decoding would leave out
            rows = [row[: row.index(closing)] if closing in row else row for row in rows]
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [text.partition(self.closing)[0].strip() for text in texts]


def add_explain_row(model: PreTrainedModel, explain_token_id: int) -> None:
    """Gives a backbone without one a row for the explain token, in its embedding and its head.

    The rows are drawn as the backbone's own start, and stay frozen. The reference draws them anew in every process and never
    saves them; here a checkpoint keeps them, an adapter-sized one as well.

    Args:
        model: an XRec model; it grows in place, up to this token.
        explain_token_id: `XRecProcessor.explain_token_id`.
    """
    rows: torch.Tensor = model.get_input_embeddings().weight
    if explain_token_id >= rows.shape[0]:
        model.resize_token_embeddings(explain_token_id + 1, mean_resizing=False)


__all__ = ["REFERENCE_MARKERS", "ReferenceLayout", "add_explain_row"]
