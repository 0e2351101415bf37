"""Terms that may stand beside the likelihood in training, to make a model listen to the graph.

Contrast. With L the loss under a row's own embeddings and L' that under another row's, in nats a token, and n tokens a text:

    softplus(n (L - L')) / n

which is nothing once a text is far likelier under its own embeddings. L and L' are means over the batch.

Alignment. With a_i the adapted vector of row i and t_i the mean of the backbone's token embeddings over its answer, both less
their means over the batch:

    mean over rows of 1 - cos(a_i, t_i)

so that an adapter starts with what the answer speaks of, in the space that it writes into.

Balance. With g(x) the gates of an embedding and I the sum of g(x) over the batch, one number an expert:

    mean over sides of variance(I) / mean(I)^2

which is nothing where all experts are used alike (Shazeer et al., arXiv 1701.06538, equations 6 and 7).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

IGNORED = -100
SIDES = ("user", "item")


@dataclass(frozen=True)
class SignalTerms:
    """Weights of the terms; with both 0 there are none.

    Args:
        contrast: of the contrast; it costs a second pass.
        align: of the alignment.
        balance: of the balance.
    """

    contrast: float = 0.0
    align: float = 0.0
    balance: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.contrast or self.align or self.balance)

    def add(
        self, loss: torch.Tensor, loss_of: Callable[[dict[str, Any]], torch.Tensor], model: Any, inputs: dict[str, Any],
        share: float = 1.0,
    ) -> torch.Tensor:  # fmt: skip
        """The loss of a batch and the terms.

        Args:
            loss: share times the batch's mean over tokens.
            loss_of: gives the same for other inputs.
            model: the bare `XRecForCausalLM`.
            inputs: `labels` `(batch, length)` and each side's `ids` or `embeds`.
            share: of all tokens of the step that this batch holds, as gradients are accumulated by tokens.

        Returns:
            Scalar.
        """
        if self.contrast and len(inputs["labels"]) > 1:
            loss = loss + self.contrast * share * contrast(loss / share, loss_of(exchanged(inputs)) / share, inputs["labels"])
        if self.align and len(inputs["labels"]) > 1:
            loss = loss + self.align * share * alignment(model, inputs)
        if self.balance and len(inputs["labels"]) > 1:
            loss = loss + self.balance * share * balance(model, inputs)
        return loss


def contrast(own: torch.Tensor, other: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """softplus(n (L - L')) / n of a batch, in nats a token, for `labels` `(batch, length)`."""
    tokens = (labels != IGNORED).sum() / len(labels)
    return F.softplus(tokens * (own - other)) / tokens


def exchanged(inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch with each row's signal of the row before."""
    names = [f"{side}_{kind}" for side in SIDES for kind in ("ids", "embeds")]
    return {name: value.roll(1, 0) if name in names else value for name, value in inputs.items()}


def alignment(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Mean over rows and sides of 1 - cos(a_i, t_i); arguments as in `SignalTerms.add`."""
    labels = inputs["labels"]
    answered = labels != IGNORED
    with torch.no_grad():
        embeds = model.get_input_embeddings()(labels.clamp(min=0)).float() * answered.unsqueeze(-1)
        targets = centred(embeds.sum(dim=1) / answered.sum(dim=1, keepdim=True).clamp(min=1))
    vectors = model.collaborative_vectors(**_signal(inputs)).float().unflatten(1, (len(SIDES), -1)).mean(dim=2)
    return 1 - F.cosine_similarity(centred(vectors), targets.unsqueeze(1), dim=-1).mean()


def balance(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Mean over sides of the squared coefficient of variation of the experts' use; arguments as in `SignalTerms.add`."""
    embeddings = model.collaborative_embeddings(**_signal(inputs))
    sides = zip((model.user_adapter, model.item_adapter), embeddings, strict=True)
    used = [adapter.gates(rows).sum(dim=0) for adapter, rows in sides]
    return torch.stack([uses.var(correction=0) / uses.mean() ** 2 for uses in used]).mean()


def _signal(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name.rpartition("_")[0] in SIDES}


def centred(rows: torch.Tensor) -> torch.Tensor:
    """Rows less their mean."""
    return rows - rows.mean(dim=0, keepdim=True)
