import random

import pytest
import torch
import torch.nn.functional as F

import modeling_xrec.recommending as recommending
from modeling_xrec import LightGCN

USERS, ITEMS = 30, 17


@pytest.fixture(params=[2**25, 300])
def model(request, monkeypatch):
    """A model with random tables, scored in one block and in blocks of a few rows."""
    monkeypatch.setattr(recommending, "BLOCK_BYTES", request.param)
    torch.manual_seed(0)
    return LightGCN(USERS, ITEMS, 6).requires_grad_(False)


def random_edges():
    """Interactions with repeats; user 3 has none, user 5 has every item, user 6 every item but two."""
    rng = random.Random(0)
    pairs = [(rng.randrange(USERS), rng.randrange(ITEMS)) for _ in range(150)]
    pairs = [(u, i) for u, i in pairs if u not in (3, 5, 6)]
    pairs += [(5, i) for i in range(ITEMS)] + [(6, i) for i in range(ITEMS - 2)] + pairs[:20]
    rng.shuffle(pairs)
    return pairs


def plain_best(model, user, k, known):
    """Scores every item one by one, sorts, and pads."""
    scores = {i: sum(a * b for a, b in zip(model.user_embeddings[user].tolist(), row, strict=True))
              for i, row in enumerate(model.item_embeddings.tolist()) if i not in known}  # fmt: skip
    best = sorted(scores, key=scores.get, reverse=True)[:k]
    padding = min(k, ITEMS) - len(best)
    return best + [-1] * padding, [scores[i] for i in best] + [float("-inf")] * padding


@pytest.mark.parametrize("k", [1, 4, ITEMS, 99])
def test_recommendations_are_the_plain_ones_for_all_users_with_history_masked(model, k):
    pairs = random_edges()
    known = [[i for u, i in pairs if u == user] for user in range(USERS)]
    wanted = [plain_best(model, user, k, set(known[user])) for user in range(USERS)]
    edges = torch.tensor(pairs).T
    for exclude in (edges, edges.int(), known, [set(items) for items in known], [torch.tensor(i).long() for i in known]):
        best, scores = model.recommend(k=k, exclude=exclude)
        assert best.tolist() == [row for row, _ in wanted]
        torch.testing.assert_close(scores, torch.tensor([row for _, row in wanted]))
    assert (best[5] == -1).all()
    assert (best[6] >= 0).sum() == min(k, 2)


def test_some_users_in_any_order_get_their_rows_of_all(model):
    edges, chosen = torch.tensor(random_edges()).T, [6, 0, 29, 6, 3, 5]
    best, scores = model.recommend(k=5, exclude=edges)
    for ids in (torch.tensor(chosen), torch.tensor(chosen, dtype=torch.int32), chosen):
        found = model.recommend(ids, k=5, exclude=edges)
        assert torch.equal(found[0], best[chosen])
        torch.testing.assert_close(found[1], scores[chosen])
    plain, _ = model.recommend(k=5)
    assert torch.equal(model.recommend(k=5, exclude=torch.zeros(2, 0, dtype=torch.long))[0], plain)
    assert torch.equal(model.recommend(k=5, exclude=[[]] * USERS)[0], plain)
    assert model.recommend([], k=5)[0].shape == (0, 5)


def test_no_block_of_scores_is_larger_than_the_bound(model, monkeypatch):
    sizes, topk = [], torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda self, *args, **kw: sizes.append(self.shape) or topk(self, *args, **kw))
    model.recommend(k=3, exclude=torch.tensor(random_edges()).T)
    model.similar(torch.arange(USERS), side="user", k=3)
    assert all(rows * columns * 4 <= recommending.BLOCK_BYTES for rows, columns in sizes)
    assert sum(rows for rows, _ in sizes) == 2 * USERS


@pytest.mark.parametrize(("side", "count"), [("user", USERS), ("item", ITEMS)])
@pytest.mark.parametrize("k", [3, 99])
def test_similar_nodes_are_the_plain_ones(model, side, count, k):
    table = getattr(model, f"{side}_embeddings")
    ids = [4, 0, 4, count - 1]
    near, cosines = model.similar(torch.tensor(ids), side=side, k=k)
    assert near.shape == cosines.shape == (4, min(k, count - 1))
    for row, node in enumerate(ids):
        others = [other for other in range(count) if other != node]
        plain = {other: float(F.cosine_similarity(table[node], table[other], dim=0)) for other in others}
        assert near[row].tolist() == sorted(others, key=plain.get, reverse=True)[:k]
        torch.testing.assert_close(cosines[row], torch.tensor([plain[other] for other in near[row].tolist()]))


def test_a_node_without_a_signal_is_near_nothing(model):
    model.item_embeddings[2] = 0
    assert torch.equal(model.similar([2], k=5)[1], torch.zeros(1, 5))
    alone = LightGCN(1, 1, 4).requires_grad_(False)
    assert alone.similar([0], side="user")[0].shape == (1, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.recommend([0, 30]), r"user_ids row 1 is 30, expected 0 to 29 \(1 such rows\)"),
        (lambda m: m.recommend([-1]), "user_ids row 0 is -1"),
        (lambda m: m.recommend(torch.tensor([0.0])), r"expected user_ids as integers .* found torch.float32 \(1,\)"),
        (lambda m: m.recommend(torch.tensor([True])), "found torch.bool"),
        (lambda m: m.recommend(torch.tensor([[1]])), r"found torch.int64 \(1, 1\)"),
        (lambda m: m.recommend([0], k=0), "expected k of at least 1, found 0"),
        (lambda m: m.recommend([0, 1], exclude=[[1]]), "expected exclude with a list for each of 2 users, found 1 lists"),
        (lambda m: m.recommend([0, 1, 2], exclude=[[], [1, 2], [3, 17]]), "exclude row 2 has index 17, expected 0 to 16"),
        (lambda m: m.recommend([0, 1, 2], exclude=[[-1], [], []]), "exclude row 0 has index -1"),
        (
            lambda m: m.recommend([0], exclude=[[1.5]]),
            "expected for each exclude row a list of item indices, found torch.float",
        ),
        (lambda m: m.recommend([0], exclude=["i1"]), "expected for each exclude row a list of item indices"),
        (lambda m: m.recommend([0], exclude=torch.tensor([[0, 1], [2, 17]])), "edge 1 has item index 17, expected 0 to 16"),
        (lambda m: m.recommend([0], exclude=torch.ones(3, 3).long()), r"expected integer edges of shape \(2, edges\)"),
        (lambda m: m.similar([17]), "ids row 0 is 17, expected 0 to 16"),
        (lambda m: m.similar([0], k=-2), "expected k of at least 1, found -2"),
        (lambda m: m.similar([0], side="items"), "side='items'; expected 'user' or 'item'"),
    ],
)
def test_what_cannot_be_recommended_is_named(model, call, message):
    with pytest.raises(ValueError, match=message) as error:
        call(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("side", ["user", "item"])
def test_nan_in_a_table_is_named(model, side):
    getattr(model, f"{side}_embeddings")[7, 1] = float("nan")
    with pytest.raises(ValueError, match=f"{side}_embeddings row 7 holds NaN or infinity"):
        model.recommend([7])
    with pytest.raises(ValueError, match=r"row 7 holds NaN or infinity \(1 such rows\)"):
        model.similar([0], side=side)
