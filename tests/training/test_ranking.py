import math

import pytest
import torch

from modeling_xrec.bipartite_graph import GroupedEntries
from modeling_xrec.recommending import BLOCK_BYTES
from xrec_training.ranking import best_items, ranking_metrics


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


def world(seed=0, users=9, items=12, known=30, held_out=20):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(users, 4, generator=generator), torch.randn(items, 4, generator=generator)
    pairs = torch.randperm(users * items, generator=generator)
    edges = torch.stack([pairs // items, pairs % items])
    return *rows, edges[:, :known], edges[:, known : known + held_out]


def test_equals_torch_geometric_with_items_masked():
    metrics = pytest.importorskip("torch_geometric.metrics")
    users, items, known, held_out = world(users=40, items=60, known=400, held_out=300)
    found = ranking_metrics(users, items, known, held_out, k=10)
    scores = users @ items.T
    scores[known[0], known[1]] = float("-inf")
    counted = held_out[0].unique()
    lists = scores[counted].topk(10, dim=1).indices
    labels = torch.stack([torch.searchsorted(counted, held_out[0]), held_out[1]])
    for name, metric in (("recall", metrics.LinkPredRecall(10)), ("ndcg", metrics.LinkPredNDCG(10))):
        metric.update(lists, labels)
        assert found[f"{name}@10"] == pytest.approx(float(metric.compute()), abs=1e-6)


def test_coverage_and_novelty_by_the_plain_definition():
    users, items, known, held_out = world()
    popularity = [sum(int(i) == item for i in known[1]) for item in range(12)]
    shown = []
    for user in sorted({int(u) for u in held_out[0]}):
        masked = {int(i) for u, i in known.T if int(u) == user}
        free = [item for item in range(12) if item not in masked]
        shown += sorted(free, key=lambda item: -float(users[user] @ items[item]))[:3]
    found = ranking_metrics(users, items, known, held_out, k=3)
    assert found["coverage@3"] == pytest.approx(len(set(shown)) / 12)
    assert found["novelty@3"] == pytest.approx(sum(-math.log2(max(popularity[i], 1) / 9) for i in shown) / len(shown))


def test_the_most_popular_items_are_the_least_novel():
    users, items, known, held_out = world(users=40, items=60, known=400, held_out=300)
    popularity = torch.bincount(known[1], minlength=60).float().unsqueeze(1)
    floor = ranking_metrics(torch.ones(40, 1), popularity, known, held_out)
    other = ranking_metrics(users, items, known, held_out)
    assert floor["novelty@20"] < other["novelty@20"]
    assert floor["coverage@20"] < other["coverage@20"]


def test_a_user_with_every_item_gets_none_and_finds_nothing():
    known, held_out = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 0]]), torch.tensor([[0, 1], [2, 1]])
    users, items = torch.ones(2, 1), torch.tensor([[1.0], [3.0], [2.0]])
    lists = best_items(lambda part: users[part] @ items.T, torch.arange(2), GroupedEntries.of_edges(*known, 2), 3, k=5)
    assert lists.tolist() == [[-1] * 5, [1, 2, -1, -1, -1]]
    found = ranking_metrics(users, items, known, held_out, k=5)
    assert found["recall@5"] == 0.5


def test_repeated_held_out_edges_count_once():
    users, items, known, held_out = world()
    once, twice = (ranking_metrics(users, items, known, edges, k=5) for edges in (held_out, held_out.repeat(1, 2)))
    assert once == twice


def test_blocks_bound_the_scores_held_at_once():
    seen = []
    users = torch.arange(400)

    def score(part):
        seen.append(len(part))
        return torch.zeros(len(part), 100_000)

    best_items(score, users, GroupedEntries.of_edges(*torch.zeros(2, 1, dtype=torch.long), 400), 100_000, k=1)
    assert max(seen) == BLOCK_BYTES // 4 // 100_000
    assert sum(seen) == 400
