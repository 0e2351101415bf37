"""Words of a batch's rows as they come, and rows that stop when nobody listens any more.

transformers' own streamers take one row. This one takes a batch, so that a request that is streamed shares its model call with
others and reads the same text as one that is not.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import torch
from transformers import StoppingCriteria
from transformers.generation import BaseStreamer


class Listener(Protocol):
    """Who waits for a row's answer; asked and called in the model's thread."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more."""

    @property
    def on_text(self) -> Callable[[str], None] | None:
        """Takes each new piece of text; None where the whole answer is enough."""


class GrowingText:
    """Pieces of one answer that, put together, are the answer.

    Args:
        read: text of token ids.
    """

    def __init__(self, read: Callable[[list[int]], str]) -> None:
        self._read, self._ids, self._said = read, list[int](), ""

    def add(self, token: int) -> str:
        """What a token adds to the text; nothing while a character is not whole."""
        self._ids.append(token)
        text = self._read(self._ids)
        return "" if text.endswith("\ufffd") else self._new(text)

    def rest(self, text: str) -> str:
        """What is left to say of the whole answer."""
        return self._new(text)

    def _new(self, text: str) -> str:
        if not text.startswith(self._said):  # a decoder that changes its mind; the whole answer will say it
            return ""
        new, self._said = text[len(self._said) :], text
        return new


class BatchStreamer(BaseStreamer):
    """Hands each row's new text to its listener.

    Args:
        read: text of token ids.
        listeners: one a row.
        end_ids: tokens that end an answer.
    """

    def __init__(self, read: Callable[[list[int]], str], listeners: Sequence[Listener], end_ids: Collection[int]) -> None:
        self._texts = {row: GrowingText(read) for row, who in enumerate(listeners) if who.on_text is not None}
        self._listeners, self._end_ids, self._open = listeners, end_ids, set(self._texts)
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Takes the prompts `(batch, length)` first, then each step's tokens `(batch,)`."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        tokens = value.tolist()
        for row in sorted(self._open):
            if tokens[row] in self._end_ids or self._listeners[row].cancelled:
                self._open.discard(row)
            else:
                self._say(row, self._texts[row].add(tokens[row]))

    def end(self) -> None:
        """The batch is done; `finish` says what is left."""

    def finish(self, answers: Sequence[str]) -> None:
        """Says what is left of the rows' whole answers."""
        for row, text in self._texts.items():
            self._say(row, text.rest(answers[row]))

    def _say(self, row: int, text: str) -> None:
        on_text = self._listeners[row].on_text
        if text and on_text is not None:
            on_text(text)


class StopCancelled(StoppingCriteria):
    """Ends the rows that nobody waits for; a batch of only such rows ends at once.

    Args:
        listeners: one a row.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        """Which rows end, `(batch,)`."""
        return torch.tensor([who.cancelled for who in self._listeners], device=input_ids.device)
