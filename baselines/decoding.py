"""Greedy and beam search over a model that reads one token at a time."""

import math
from collections.abc import Callable

import torch

State = tuple[torch.Tensor, ...]
Advance = Callable[[torch.Tensor, State], tuple[torch.Tensor, State]]


def decode(
    advance: Advance, state: State, start: torch.Tensor, eos: int, pad: int, max_new_tokens: int, num_beams: int = 1
) -> torch.Tensor:
    """The likeliest texts that a beam of this width finds; a width of 1 is greedy.

    A text's score is the sum of its tokens' log-probabilities, the end among them. Nothing is divided by its length.

    Args:
        advance: reads a token a row and gives the next one's logits; see `BaselineModel.advance`.
        state: before the first token, the batch as first axis.
        start: first token of each row, `(batch,)`; like `pad` it is never written, unless it is `eos`.
        eos: token that ends a text.
        pad: token that fills up.
        max_new_tokens: longest text, in tokens.
        num_beams: width of the beam.

    Returns:
        `(batch, length)`, the best text of each row, padded after `eos`.
    """
    batch, device = len(start), start.device
    if batch == 0:
        return start.new_empty(0, 0)
    state = tuple(part.repeat_interleave(num_beams, dim=0) for part in state)
    tokens = start.repeat_interleave(num_beams)
    never = [token for token in {pad, int(start[0])} if token != eos]
    scores = torch.full((batch, num_beams), -math.inf, device=device)
    scores[:, 0] = 0.0  # all beams are the same at first
    done = torch.zeros(batch * num_beams, dtype=torch.bool, device=device)
    texts = tokens.new_empty(batch * num_beams, 0)
    first = torch.arange(batch, device=device)[:, None] * num_beams
    for _ in range(max_new_tokens):
        logits, state = advance(tokens, state)
        steps = torch.log_softmax(logits.float(), dim=-1)
        steps[:, never] = -math.inf
        steps[done] = -math.inf
        steps[done, pad] = 0.0
        size = steps.shape[-1]
        scores, best = (scores[:, :, None] + steps.view(batch, num_beams, size)).view(batch, -1).topk(num_beams)
        origin, tokens = (first + best // size).flatten(), (best % size).flatten()
        if num_beams > 1:
            state = tuple(part[origin] for part in state)
            texts, done = texts[origin], done[origin]
        texts = torch.cat([texts, tokens[:, None]], dim=1)
        done = done | (tokens == eos)
        if bool(done[::num_beams].all()):  # beams come best first, and no score can rise any more
            break
    return texts[::num_beams]
