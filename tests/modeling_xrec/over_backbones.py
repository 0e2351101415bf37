"""What the tests over all backbone families share: a prompt, its pairs, and how far two results may be apart."""

import torch

from .conftest import FAMILIES

PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31, 7, 8, 30], [1, 104, 8, 9, 10, 105, 40, 41, 9, 10]])
IDS = {"user_ids": torch.tensor([0, 3]), "item_ids": torch.tensor([2, 6])}
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
HEARD = 1e-3
DEEP = [(family, mode) for family in FAMILIES for mode in ("qkv", "attention")]


@torch.no_grad()
def logits(model, prompt=PROMPT, **kwargs):
    return model(prompt, **{**IDS, **kwargs}).logits


def apart(one, two):
    return float((one - two).abs().max())
