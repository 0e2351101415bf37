import math

import pytest
import torch

from xrec_training.ranking import ranking_metrics


def plain_metrics(users, items, known, held_out, k):
    """The field's definition, one user at a time."""
    recalls, ndcgs = [], []
    for user in sorted({int(u) for u in held_out[0]}):
        wanted = {int(i) for u, i in held_out.T if int(u) == user}
        masked = {int(i) for u, i in known.T if int(u) == user}
        scores = {item: float(users[user] @ items[item]) for item in range(len(items)) if item not in masked}
        ranked = sorted(scores, key=lambda item: -scores[item])[:k]
        hits = [item in wanted for item in ranked]
        recalls.append(sum(hits) / len(wanted))
        gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
        ndcgs.append(gain / sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), k))))
    return sum(recalls) / len(recalls), sum(ndcgs) / len(ndcgs)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_equals_the_plain_definition(block):
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(9, 4, generator=generator), torch.randn(12, 4, generator=generator)
    pairs = torch.randperm(9 * 12, generator=generator)
    edges = torch.stack([pairs // 12, pairs % 12])
    known, held_out = edges[:, :30], edges[:, 30:50]
    found = ranking_metrics(users, items, known, held_out, k=5, block=block)
    recall, ndcg = plain_metrics(users, items, known, held_out, 5)
    assert found["recall@5"] == pytest.approx(recall, abs=1e-6)
    assert found["ndcg@5"] == pytest.approx(ndcg, abs=1e-6)
    assert found["users"] == len(held_out[0].unique())
