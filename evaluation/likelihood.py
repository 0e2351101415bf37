"""How likely a model finds the reference: log-probabilities of its tokens, under any collaborative embeddings.

This is what a graph is worth without a word being generated: log p(reference | prompt, embeddings), in nats a token. The
answer's tokens and its end count; the prompt's do not.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from xrec_dataset_builder.errors import DataError

from .processes import Processes

IGNORED = -100


class Signal(NamedTuple):
    """What the model hears for some pairs.

    Attributes:
        user: Collaborative embeddings of the users, `(rows, width)`.
        item: Those of the items, `(rows, width)`.
    """

    user: torch.Tensor
    item: torch.Tensor


class ReferenceLikelihood:
    """Scores the references of some pairs under a model.

    Args:
        explainer: An `Explainer`; its model and processor are used as they are.
        rows: user_id, item_id, reference; none of the references empty.
        batch_size: Pairs scored at a time.

    Attributes:
        users: Row of each pair's user in the model's table, `(rows,)`.
        items: Likewise of its item.

    Raises:
        DataError: An empty reference.
        ValueError: A user or item that the model does not know.
    """

    def __init__(self, explainer: Any, rows: pl.DataFrame, batch_size: int = 32) -> None:
        self.model, self.processor, self.batch_size = explainer.model, explainer.processor, batch_size
        self.users = torch.tensor([self.processor.user_index(user) for user in rows["user_id"]], dtype=torch.long)
        self.items = torch.tensor([self.processor.item_index(item) for item in rows["item_id"]], dtype=torch.long)
        self._examples = [self._example(*row) for row in rows.select("user_id", "item_id", "reference").iter_rows()]
        # Like lengths together, so that little is padded.
        self._order = sorted(range(len(self._examples)), key=lambda row: len(self._examples[row]["input_ids"]))

    def _example(self, user_id: str, item_id: str, reference: str) -> dict[str, list[int]]:
        if not reference.strip():
            raise DataError(
                f"expected a reference to score, found an empty one of user {user_id!r}, item {item_id!r}: drop it"
            )
        user = self.processor.users[self.processor.user_index(user_id)]
        item = self.processor.items[self.processor.item_index(item_id)]
        return self.processor.example(item["title"], user.get("user_profile"), item.get("item_profile"), reference)

    def __len__(self) -> int:
        return len(self._examples)

    def signal(self) -> Signal:
        """The pairs' own embeddings, from the model's tables."""
        tables = self.model.lightgcn
        users, items = (side.to(tables.user_embeddings.device) for side in (self.users, self.items))
        return Signal(tables.user_embeddings.detach()[users], tables.item_embeddings.detach()[items])

    @torch.no_grad()
    def tokens(self, signal: Signal, description: str | None = None, processes: Processes | None = None) -> list[np.ndarray]:
        """Log-probabilities of every token of each reference and of its end.

        Args:
            signal: Embeddings of the pairs, in the order of the rows.
            description: Text of a progress bar; None for none.
            processes: Those that share the batches; None for this one alone.

        Returns:
            One array `(tokens,)` of nats a row, in the order of the rows; in every process.
        """
        starts = range(0, len(self), self.batch_size)
        batches: Any = [self._order[start : start + self.batch_size] for start in starts]
        if processes is not None and processes.count > 1:
            shared = processes.share(batches, description or "", "pair")
            mine = [pair for part in shared for pair in zip(part, self._batch(part, signal), strict=True)]
            found = dict(processes.gather(mine))
        else:
            bar = tqdm(batches, desc=description, unit="batch", disable=description is None)
            found = {row: values for part in bar for row, values in zip(part, self._batch(part, signal), strict=True)}
        return [found[row] for row in range(len(self))]

    def totals(self, signal: Signal, description: str | None = None) -> np.ndarray:
        """Log-probability of each whole reference in nats, `(rows,)`; arguments as in `tokens`."""
        return np.array([values.sum() for values in self.tokens(signal, description)])

    def _batch(self, part: Sequence[int], signal: Signal) -> list[np.ndarray]:
        batch = self.processor.pad([self._examples[row] for row in part])
        device = self.model.device
        labels = batch["labels"][:, 1:].to(device)
        first = int((batch["labels"] != IGNORED).int().argmax(dim=1).min())
        keep = batch["labels"].shape[1] - first + 1  # logits from the token before the first answer in the batch
        where = torch.tensor(part, device=signal.user.device)
        logits = self.model(
            input_ids=batch["input_ids"].to(device),
            attention_mask=batch["attention_mask"].to(device),
            user_embeds=signal.user[where],
            item_embeds=signal.item[where],
            logits_to_keep=keep,
            use_cache=False,
        ).logits[:, :-1]
        labels = labels[:, -logits.shape[1] :]
        scored = labels != IGNORED
        chosen = logits.float().log_softmax(dim=-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return [values[mask].double().cpu().numpy() for values, mask in zip(chosen, scored, strict=True)]


def nats_per_token(tokens: Sequence[np.ndarray]) -> np.ndarray:
    """Mean negative log-likelihood of each reference's tokens, `(rows,)` nats."""
    return np.array([-values.mean() for values in tokens])


def perplexity(tokens: Sequence[np.ndarray]) -> float:
    """The exponential of the mean negative log-likelihood of all tokens of the corpus."""
    return float(np.exp(-np.concatenate(list(tokens)).mean()))
