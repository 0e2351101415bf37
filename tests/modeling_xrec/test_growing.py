import pytest
import torch
import torch.nn.functional as F

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from modeling_xrec.growing import grow, growing_edges

USERS, ITEMS = 12, 9
CLOSE = {"atol": 1e-5, "rtol": 1e-4}
# New users 12 and 13, new items 9 and 10; (12, 9) is between two new nodes, (0, 0) between two known ones, (12, 2) twice.
NEW = torch.tensor([[12, 12, 12, 13, 12, 0, 1, 4, 0, 0], [2, 5, 2, 7, 9, 9, 9, 9, 10, 0]])


def trained(aggregation, exponent):
    torch.manual_seed(0)
    edges = torch.stack([torch.randint(USERS, (50,)), torch.randint(ITEMS, (50,))])
    layers = len(aggregation) - 1 if isinstance(aggregation, list) else 3
    model = LightGCN(USERS, ITEMS, 5, layers, aggregation).requires_grad_(False)
    adjacency = normalized_adjacency(edges, USERS, ITEMS)
    degrees = adjacency.crow_indices().diff().clamp(min=1).double()
    layers = [rows.double() for rows in model.propagate_layers(adjacency)]
    model.settle(edges)
    mean = model.item_embeddings.norm(dim=1).mean()
    if exponent is not None:
        model.to_unit_rows(exponent)
    return model, layers, degrees, mean


@pytest.mark.parametrize("exponent", [None, 0.0, 0.4])
@pytest.mark.parametrize("aggregation", ["mean", "sum", [0.2, 0.3, 0.5]])
def test_new_nodes_are_folded_in_and_further_ones_through_them(aggregation, exponent):
    model, layers, degrees, mean = trained(aggregation, exponent)
    before = {name: table.clone() for name, table in model.state_dict().items()}
    grown = grow(model, NEW, 14, 11)
    assert all(torch.equal(table, before[name]) for name, table in model.state_dict().items())
    assert all(torch.equal(grown.state_dict()[name][: len(table)], table) for name, table in before.items())

    alpha = model.layer_weights

    def plain(neighbours, layers_of, degree_of):
        """Layers 1 .. L of a node outside the graph, whose layer 0 is zero, from its neighbours' layers and degrees."""
        root = len(neighbours) ** 0.5
        return [
            sum(layers_of(n)[level - 1] / root / degree_of(n) ** 0.5 for n in neighbours) for level in range(1, len(alpha))
        ]

    def combined(own_layers, side):
        total = sum(weight * layer for weight, layer in zip(alpha[1:], own_layers, strict=True))
        length = 1 if side == "user" or not exponent else (total.norm() / mean) ** exponent
        return (total if exponent is None else F.normalize(total, dim=0) * length).float()

    def user_layers(u):
        return [layer[u] for layer in layers]

    def item_layers(i):
        return [layer[USERS + i] for layer in layers]

    new_user = plain([2, 5], item_layers, lambda i: degrees[USERS + i])
    new_item = plain([0, 1, 4], user_layers, lambda u: degrees[u])
    torch.testing.assert_close(grown.user_embeddings[12], combined(new_user, "user"), **CLOSE)
    torch.testing.assert_close(grown.item_embeddings[9], combined(new_item, "item"), **CLOSE)

    # A further user of a known item and of the new item, whose layer l is the one its neighbours gave it, and degree is 3.
    further = plain([3, 9], lambda i: new_item if i == 9 else item_layers(i), lambda i: 3 if i == 9 else degrees[USERS + i])
    torch.testing.assert_close(grown.fold_in([[3, 9]])[0], combined(further, "user"), **CLOSE)
    further = plain([12, 6], lambda u: new_user if u == 12 else user_layers(u), lambda u: 2 if u == 12 else degrees[u])
    torch.testing.assert_close(grown.fold_in([[12, 6]], side="item")[0], combined(further, "item"), **CLOSE)


def test_growing_by_one_side_and_by_nothing():
    model, *_ = trained("mean", 0.4)
    users = grow(model, NEW[:, :4], 14, ITEMS)
    assert (users.num_users, users.num_items) == (14, ITEMS)
    torch.testing.assert_close(users.user_embeddings[12:], model.fold_in([[2, 5], [7]]), **CLOSE)
    same = grow(model, NEW[:, -1:], USERS, ITEMS)
    assert all(torch.equal(table, model.state_dict()[name]) for name, table in same.state_dict().items())
    assert users.has_unit_rows()
    assert users.is_settled()
    best, _ = users.recommend([12], k=3, exclude=[[2, 5]])
    assert not set(best[0].tolist()) & {2, 5}


def test_the_edges_that_count_are_those_between_new_and_known():
    model, *_ = trained("mean", None)
    assert growing_edges(model, NEW).tolist() == [True] * 4 + [False] + [True] * 4 + [False]
    grown, shuffled = grow(model, NEW, 14, 11), grow(model, NEW[:, torch.randperm(10)], 14, 11)
    only = grow(model, NEW[:, growing_edges(model, NEW)], 14, 11)
    for name, table in grown.state_dict().items():
        torch.testing.assert_close(shuffled.state_dict()[name], table, **CLOSE)
        torch.testing.assert_close(only.state_dict()[name], table, **CLOSE)


def test_a_user_of_new_items_only_comes_in_a_second_step():
    model, *_ = trained("mean", 0.4)
    edges = torch.tensor([[0, 3, 12], [9, 9, 9]])
    with pytest.raises(ValueError, match=r"new user 12 touches no known item \(1 such users\); leave it out, or grow by its"):
        grow(model, edges, 13, 10)
    first = grow(model, edges[:, :2], USERS, 10)
    second = grow(first, edges, 13, 10)
    torch.testing.assert_close(second.user_embeddings[12], first.fold_in([[9]])[0], **CLOSE)


@pytest.mark.parametrize(
    ("edges", "users", "items", "message"),
    [
        (NEW, 13, 11, r"edge 3 has user index 13, expected 0 to 12"),
        (NEW, 14, 10, r"edge 8 has item index 10, expected 0 to 9"),
        (NEW, 15, 11, "new user 14 touches no known item"),
        (NEW, 14, 12, "new item 11 touches no known user"),
        (NEW, 11, 11, "expected at least the model's 12 users and 9 items, found 11 and 11"),
        (NEW.float(), 14, 11, "expected integer edges"),
    ],
)
def test_bad_growth_is_named(edges, users, items, message):
    model, *_ = trained("mean", None)
    with pytest.raises(ValueError, match=message):
        grow(model, edges, users, items)


def test_only_a_settled_model_with_finite_tables_grows():
    with pytest.raises(ValueError, match="expected a settled model"):
        grow(LightGCN(USERS, ITEMS, 5), NEW, 14, 11)
    model, *_ = trained("mean", None)
    model.user_fold_in[4] = float("inf")
    with pytest.raises(ValueError, match="user_fold_in row 4 holds NaN or infinity"):
        grow(model, NEW, 14, 11)
