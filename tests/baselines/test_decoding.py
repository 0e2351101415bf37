"""Beam search against trying every text."""

import itertools
import math

import pytest
import torch

from xrec_baselines.decoding import decode

PAD, START, END, SIZE = 0, 1, 2, 6
LENGTH = 3


def table(rows: int) -> torch.Tensor:
    """Log-probabilities of the next token by row and by the two tokens before."""
    return torch.randn(rows, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).mul(2).log_softmax(dim=-1)


def write(rows: torch.Tensor, beams: int, start: int = START) -> list[list[int]]:
    """Writes with a model that remembers the token before the last."""

    def advance(tokens, state):
        one, last = state
        return rows[one, last, tokens], (one, tokens)

    state = (torch.arange(len(rows)), torch.zeros(len(rows), dtype=torch.long))
    return decode(advance, state, torch.full((len(rows),), start), END, PAD, LENGTH, beams).tolist()


def score(probabilities: torch.Tensor, text: list[int]) -> float:
    before, total = [0, START], 0.0
    for token in text:
        total += probabilities[before[0], before[1], token].item()
        before = [before[1], token]
    return total


def every_text() -> list[list[int]]:
    words = [token for token in range(SIZE) if token not in (PAD, START, END)]
    ended = [[*text, END] for length in range(LENGTH) for text in itertools.product(words, repeat=length)]
    return ended + [list(text) for text in itertools.product(words, repeat=LENGTH)]


def test_a_beam_wide_enough_finds_the_likeliest_text_of_all():
    rows = table(8)
    for probabilities, found in zip(rows, write(rows, 60), strict=True):
        best = max(every_text(), key=lambda text: score(probabilities, text))
        assert found[: len(best)] == best
        assert set(found[len(best) :]) <= {PAD}


def test_a_wider_beam_is_better_than_greedy_on_the_whole():
    rows = table(40)
    scores = {
        beams: [score(one, [t for t in text if t != PAD]) for one, text in zip(rows, write(rows, beams), strict=True)]
        for beams in (1, 4)
    }
    assert sum(scores[4]) > sum(scores[1])
    assert any(math.isclose(one, two, abs_tol=1e-9) for one, two in zip(scores[1], scores[4], strict=True))


@pytest.mark.parametrize("beams", [1, 2])
def test_padding_and_the_beginning_are_never_written_before_the_end(beams):
    rows = table(30)
    rows[..., PAD] = rows[..., START] = 5.0
    for text in write(rows, beams):
        words = text[: text.index(END)] if END in text else text
        assert not set(words) & {PAD, START}


def test_a_beginning_that_is_also_the_end_can_be_written():
    rows = table(1)
    rows[..., END] = 9.0
    assert write(rows, 1, start=END) == [[END]]


def test_no_rows_give_no_texts():
    assert decode(None, (), torch.empty(0, dtype=torch.long), END, PAD, 5).shape == (0, 0)
