"""The loss of a training step without the logits that no label looks at.

The next-token cross-entropy reads the logits of the positions whose next token has a label, in explanations about a quarter of
them. Two ways to compute only those:

- the backbone's own forward with a boolean `logits_to_keep`, so that whatever a vendor does to logits (soft caps, scales) is
  done; right for every backbone.
- where the logits are the head's output and nothing else, and the head is frozen: head and cross-entropy a few rows at a
  time. With logits z = W h + b, target y and p = softmax(z), the loss of a row is log sum exp(z) - z_y, and its gradient
  W^T (p - onehot(y)) is known as soon as the loss is. So both are computed in the forward pass, and the logits of all rows
  never exist together.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

IGNORED = -100
LOGITS_AT_ONCE = 2**24
"""Logits that exist at one time, 64 MiB of them: enough rows to keep the product with the head efficient."""
# The one table: vendors in whose forward the logits are the head's output, by the `model_type` of the backbone. Others lose
# nothing but memory. A test holds every line of it against the vendor's code.
HEAD_COMES_LAST = frozenset({
    "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "olmo2", "olmo3", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
    "smollm3",
})  # fmt: skip


def predicting(labels: torch.Tensor) -> torch.Tensor:
    """Positions whose next token has a label.

    Args:
        labels: `(batch, length)`, -100 where there is none.

    Returns:
        `(batch, length)`, boolean.
    """
    return F.pad(labels[:, 1:] != IGNORED, (0, 1), value=False)


def plain_head(language_model: PreTrainedModel) -> nn.Linear | None:
    """The output head, where logits are W h + b of a frozen, whole weight and nothing else; None elsewhere.

    A quantised, adapted (LoRA), offloaded or sharded head is another class or has another kind of weight.
    """
    head: Any = language_model.get_output_embeddings()
    vendors_own = type(language_model).__module__.startswith("transformers.models.")
    if (
        not vendors_own
        or language_model.config.get_text_config().model_type not in HEAD_COMES_LAST
        or type(head) is not nn.Linear
    ):
        return None
    weight = head.weight
    whole = type(weight) in (torch.Tensor, nn.Parameter) and not weight.is_meta and weight.numel() > 0
    trained = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in head.parameters())
    return head if whole and not trained else None


def head_loss(hidden_states: torch.Tensor, head: nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy of a frozen head's logits.

    Args:
        hidden_states: what the head reads, `(rows, hidden)`.
        head: linear layer that gets no gradient.
        targets: token of each row, `(rows,)`.

    Returns:
        The sum over rows, in float32 or better.
    """
    loss: torch.Tensor = _HeadLoss.apply(hidden_states.to(head.weight.device), head.weight, head.bias, targets)
    return loss


class _HeadLoss(torch.autograd.Function):
    """Loss and gradient a few rows at a time; the gradient is kept instead of the logits."""

    @staticmethod
    def forward(
        ctx: Any, hidden_states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden_states) if wanted else None
        precise = torch.promote_types(hidden_states.dtype, torch.float32)
        loss = torch.zeros((), dtype=precise, device=hidden_states.device)
        step = max(LOGITS_AT_ONCE // weight.shape[0], 1)
        for start in range(0, len(hidden_states), step):
            rows = slice(start, start + step)
            logits = F.linear(hidden_states[rows], weight, bias)
            dtype, logits = logits.dtype, logits.to(loss.dtype)
            logits -= logits.amax(dim=-1, keepdim=True)
            picked = logits.gather(1, targets[rows, None])
            exponentials = logits.exp_()
            total = exponentials.sum(dim=-1, keepdim=True)
            loss += (total.log() - picked).sum()
            if gradient is not None:
                slopes = exponentials.div_(total)
                slopes.scatter_add_(1, targets[rows, None], torch.full_like(picked, -1))
                gradient[rows] = slopes.to(dtype) @ weight
        ctx.save_for_backward(*(() if gradient is None else (gradient,)))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * slope).to(gradient.dtype), None, None, None


def answer_loss(
    language_model: PreTrainedModel,
    inputs: dict[str, Any],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None,
    loss_function: Any,
) -> tuple[torch.Tensor, Any]:
    """Next-token loss, with logits of labelled positions alone.

    Args:
        language_model: the backbone.
        inputs: its arguments, without labels.
        labels: `(batch, length)` for the tokens of `inputs`, -100 where no loss is taken.
        num_items_in_batch: what the sum is divided by; the number of labels when None.
        loss_function: the model's own, called where it is not the usual cross-entropy or the fused way is not open.

    Returns:
        The loss, and the backbone's outputs (without logits worth reading).

    Raises:
        ValueError: the backbone ignores `logits_to_keep`.
    """
    keep = predicting(labels)
    targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED)[keep]
    head = plain_head(language_model) if loss_function is ForCausalLMLoss else None
    if head is not None:
        outputs = language_model.get_decoder()(**inputs)
        rows = outputs.last_hidden_state[keep.to(outputs.last_hidden_state.device)]
        loss = head_loss(rows, head, targets.to(head.weight.device))
        count = len(targets) if num_items_in_batch is None else num_items_in_batch
        return loss / (count.to(loss.device) if isinstance(count, torch.Tensor) else loss.new_tensor(count)), outputs
    outputs = language_model(**inputs, logits_to_keep=keep)
    if outputs.logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"expected the logits of {len(targets)} positions, found {tuple(outputs.logits.shape[:-1])}: "
            f"{type(language_model).__name__} ignores a boolean logits_to_keep; leave skip_logits out."
        )
    vocabulary = outputs.logits.shape[-1]
    settings = {"vocab_size": vocabulary, "num_items_in_batch": num_items_in_batch, "shift_labels": targets}
    return loss_function(outputs.logits, None, **settings), outputs


__all__ = ["HEAD_COMES_LAST", "answer_loss", "head_loss", "plain_head", "predicting"]
