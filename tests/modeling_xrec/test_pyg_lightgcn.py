import pytest
import torch

import modeling_xrec.pyg_lightgcn as interoperability
from modeling_xrec import LightGCN
from modeling_xrec.pyg_lightgcn import from_pyg, pyg_edges, to_pyg
from xrec_training.objectives import bpr_loss

pyg = pytest.importorskip("torch_geometric.nn")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
EDGES = torch.tensor([[0, 0, 1, 2, 2, 0], [0, 1, 1, 2, 3, 0]])


def random_edges(users, items, count):
    torch.manual_seed(0)
    return torch.stack([torch.randint(users, (count,)), torch.randint(items, (count,))])


GRAPHS = {
    "one edge": (1, 1, torch.tensor([[0], [0]])),
    "one edge among isolated nodes": (5, 4, torch.tensor([[3], [1]])),
    "a user with every item": (4, 6, torch.tensor([[2] * 6 + [0], [*range(6), 3]])),
    "everyone with everything": (3, 4, torch.cartesian_prod(torch.arange(3), torch.arange(4)).T),
    "duplicates": (3, 4, EDGES),
    "isolated nodes": (40, 30, random_edges(20, 15, 60)),
    "dense": (25, 15, random_edges(25, 15, 900)),
    "large": (300, 500, random_edges(300, 500, 4000)),
}


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("name", GRAPHS)
def test_propagation_and_bpr_gradients_equal_torch_geometric(name, layers):
    users, items, edges = GRAPHS[name]
    torch.manual_seed(1)
    ours = LightGCN(users, items, 16, layers)
    # Its own construction, not `to_pyg`: edges both ways, each once, items numbered after users.
    theirs = pyg.LightGCN(users + items, 16, layers)
    theirs.embedding.weight.data = torch.cat([ours.user_embeddings, ours.item_embeddings]).detach().clone()
    pairs = edges.T.unique(dim=0).T + torch.tensor([[0], [users]])
    graph = torch.cat([pairs, pairs.flip(0)], dim=1)
    found = torch.cat(ours.propagate(edges))
    torch.testing.assert_close(found, theirs.get_embedding(graph), **CLOSE)

    batch_users, touched = edges[:, torch.randint(edges.shape[1], (64,))]
    negatives = torch.randint(items, (64,))
    loss = bpr_loss(found[batch_users], found[users + touched], found[users + negatives], weight_decay=0.0)
    ranks = [theirs(graph, torch.stack([batch_users, users + other])) for other in (touched, negatives)]
    their_loss = theirs.recommendation_loss(*ranks, lambda_reg=0.0)
    torch.testing.assert_close(loss, their_loss, **CLOSE)
    loss.backward()
    their_loss.backward()
    gradient = torch.cat([ours.user_embeddings.grad, ours.item_embeddings.grad])
    torch.testing.assert_close(gradient, theirs.embedding.weight.grad, **CLOSE)


@pytest.mark.parametrize("aggregation", ["mean", "sum", [0.2, 0.3, 0.5]])
def test_a_round_trip_through_torch_geometric_changes_nothing(aggregation):
    model = LightGCN(3, 4, 5, num_layers=2, aggregation=aggregation)
    module = to_pyg(model)
    torch.testing.assert_close(module.get_embedding(pyg_edges(EDGES, 3, 4)), torch.cat(model.propagate(EDGES)), **CLOSE)
    again = from_pyg(module, num_users=3)
    assert all(torch.equal(table, again.state_dict()[name]) for name, table in model.state_dict().items())
    assert again.num_layers == 2
    torch.testing.assert_close(torch.tensor(again.layer_weights), torch.tensor(model.layer_weights))
    assert again.user_embeddings.requires_grad
    assert not again.is_settled()
    with torch.no_grad():
        module.embedding.weight.zero_()
    assert model.user_embeddings.any()
    assert again.user_embeddings.any()


def test_edges_go_both_ways_once():
    assert pyg_edges(EDGES, 3, 4).tolist() == [[0, 0, 1, 2, 2, 3, 4, 4, 5, 6], [3, 4, 4, 5, 6, 0, 0, 1, 2, 2]]


def test_final_embeddings_move_only_when_asked_for():
    model = LightGCN(3, 4, 5)
    with pytest.raises(ValueError, match="expected final=False for a model that is not settled"):
        to_pyg(model, final=True)
    model.settle(EDGES)
    with pytest.raises(ValueError, match="expected final=True for a settled model, found final=False"):
        to_pyg(model)
    module, graph = to_pyg(model, final=True), pyg_edges(EDGES, 3, 4)
    best = module.recommend(graph, src_index=torch.arange(3), dst_index=torch.arange(3, 7), k=4) - 3
    assert torch.equal(best, model.recommend(torch.arange(3), k=4)[0])
    assert torch.equal(module.get_embedding(graph)[:3], model.user_embeddings)


def test_what_cannot_be_moved_is_refused():
    with pytest.raises(ValueError, match=r"expected a torch_geometric.nn.LightGCN, found Linear"):
        from_pyg(torch.nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match="found normalize=False"):
        from_pyg(pyg.LightGCN(7, 5, 2, normalize=False), 3)
    for users in (0, 7):
        with pytest.raises(ValueError, match=f"expected num_users from 1 to 6, found {users}"):
            from_pyg(pyg.LightGCN(7, 5, 2), users)
    model = LightGCN(3, 4, 5)
    with torch.no_grad():
        model.item_embeddings[2] = float("nan")
    with pytest.raises(ValueError, match="item_embeddings row 2 holds NaN"):
        to_pyg(model)


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(interoperability, "PyGLightGCN", None)
    for call in (lambda: to_pyg(LightGCN(3, 4, 5)), lambda: from_pyg(object(), 1)):
        with pytest.raises(ImportError, match=r"pip install xrec\[graph\]"):
            call()
