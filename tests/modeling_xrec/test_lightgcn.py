import pytest
import torch
import torch.nn.functional as F

from modeling_xrec import LightGCN
from modeling_xrec.lightgcn import normalized_adjacency, softmax_loss

EDGES = torch.tensor([[0, 0, 1, 2, 2, 0], [0, 1, 1, 2, 3, 0]])


def test_sampled_softmax_over_all_items_is_the_full_softmax():
    torch.manual_seed(0)
    users, items, touched = torch.randn(6, 4), torch.randn(9, 4), torch.randint(9, (6,))
    scores = F.normalize(users, dim=1) @ F.normalize(items, dim=1).T / 0.2
    found = softmax_loss(users, items[touched], items, touched.unsqueeze(1) == torch.arange(9), 0.2)
    torch.testing.assert_close(found, F.cross_entropy(scores, touched))


def test_gradient_of_propagation_equals_the_dense_one():
    torch.manual_seed(0)
    model, adjacency = LightGCN(3, 4, 5, num_layers=2), normalized_adjacency(EDGES, 3, 4)
    weights = torch.randn(7, 5)
    (torch.cat(model.propagate(adjacency=adjacency)) * weights).sum().backward()
    dense, table = adjacency.to_dense(), torch.cat([model.user_embeddings, model.item_embeddings]).detach().requires_grad_()
    ((table + dense @ table + dense @ (dense @ table)) / 3 * weights).sum().backward()
    torch.testing.assert_close(torch.cat([model.user_embeddings.grad, model.item_embeddings.grad]), table.grad)


def test_unit_rows_rank_by_cosine_and_fold_in_follows():
    torch.manual_seed(0)
    model = LightGCN(3, 4, 5)
    model.settle(EDGES)
    raw = model.fold_in([[0, 2]])
    cosine = F.cosine_similarity(model.user_embeddings[1:2], model.item_embeddings)
    model.to_unit_rows()
    best, scores = model.recommend(torch.tensor([1]), k=4)
    torch.testing.assert_close(scores[0], cosine.sort(descending=True).values)
    assert best[0].tolist() == cosine.argsort(descending=True).tolist()
    torch.testing.assert_close(model.fold_in([[0, 2]]), F.normalize(raw, dim=1))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0, 5], [0, 1]]), "edge 1 has user index 5, expected 0 to 2"),
        (torch.tensor([[0, 1], [0, -1]]), "edge 1 has item index -1, expected 0 to 3"),
        (torch.zeros(2, 3), "expected integer edges"),
        (torch.zeros(3, 2, dtype=torch.long), "expected integer edges of shape"),
        (torch.zeros(2, 0, dtype=torch.long), "expected at least one edge, found none"),
    ],
)
def test_bad_edges_are_named(edges, message):
    with pytest.raises(ValueError, match=message):
        normalized_adjacency(edges, 3, 4)
