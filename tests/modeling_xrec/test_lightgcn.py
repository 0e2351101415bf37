import random

import pytest
import torch
import torch.nn.functional as F

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from modeling_xrec.lightgcn import unit_rows

EDGES = torch.tensor([[0, 0, 1, 2, 2, 0], [0, 1, 1, 2, 3, 0]])


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


def plain_fold_in(model, edges, history, side):
    """The new node's embedding by the definition: its own layer 0 is zero, the others' layers and degrees are held."""
    users, items = model.user_embeddings.tolist(), model.item_embeddings.tolist()
    touched = {tuple(pair) for pair in edges.T.tolist()}
    degree_u = [max(sum(u == user for u, _ in touched), 1) for user in range(len(users))]
    degree_i = [max(sum(i == item for _, i in touched), 1) for item in range(len(items))]
    width, entries = len(users[0]), set(history)
    total = [0.0] * width
    for _ in range(model.num_layers):
        layer, degree = (items, degree_i) if side == "user" else (users, degree_u)
        for entry in entries:
            for column in range(width):
                total[column] += layer[entry][column] / len(entries) ** 0.5 / degree[entry] ** 0.5
        next_users, next_items = ([[0.0] * width for _ in rows] for rows in (users, items))
        for u, i in touched:
            for column in range(width):
                next_users[u][column] += items[i][column] / degree_u[u] ** 0.5 / degree_i[i] ** 0.5
                next_items[i][column] += users[u][column] / degree_u[u] ** 0.5 / degree_i[i] ** 0.5
        users, items = next_users, next_items
    total = torch.tensor(total)
    return total / (model.num_layers + 1) if model.layer_weights[0] < 1 else total


def settled(aggregation="mean", length_exponent=None):
    torch.manual_seed(0)
    model = LightGCN(3, 4, 5, aggregation=aggregation)
    model.settle(EDGES)
    if length_exponent is not None:
        model.to_unit_rows(length_exponent)
    return model


def plain_lengths(rows, side, length_exponent, mean):
    """What `unit_rows` says, row by row."""
    lengths = [1.0 if side == "user" else (row.norm().item() / mean) ** length_exponent for row in rows]
    return torch.stack([row / row.norm() * length for row, length in zip(rows, lengths, strict=True)])


@pytest.mark.parametrize("length_exponent", [0.0, 0.4, 1.0])
def test_rows_keep_a_power_of_their_items_lengths(length_exponent):
    raw, model = settled(), settled(length_exponent=length_exponent)
    users, items, mean = (
        raw.user_embeddings.detach(),
        raw.item_embeddings.detach(),
        raw.item_embeddings.norm(dim=1).mean().item(),
    )
    wanted = plain_lengths(users, "user", 0, mean), plain_lengths(items, "item", length_exponent, mean)
    torch.testing.assert_close((model.user_embeddings.detach(), model.item_embeddings.detach()), wanted)
    torch.testing.assert_close(unit_rows(users, items, length_exponent), wanted)
    assert model.has_unit_rows()


def test_items_alone_say_that_they_have_lengths_of_their_own():
    model = settled(length_exponent=0.4)
    alone = LightGCN(0, 4, 5, length_exponent=0.4)
    alone.load_state_dict(model.state_dict() | {"user_embeddings": torch.zeros(0, 5), "user_fold_in": torch.zeros(0, 5)})
    torch.testing.assert_close(alone.fold_in([[0, 2]]), model.fold_in([[0, 2]]))


def test_only_the_mean_length_carries_no_gradient():
    torch.manual_seed(0)
    users, items = torch.randn(3, 4, dtype=torch.double), torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    mean = items.detach().norm(dim=1).mean()
    assert torch.autograd.gradcheck(lambda rows: unit_rows(users, rows, 0.4, mean)[1], items)
    torch.testing.assert_close(unit_rows(users, items, 0.4)[1], unit_rows(users, items, 0.4, mean)[1])


@pytest.mark.parametrize("side", ["user", "item"])
@pytest.mark.parametrize("aggregation", ["mean", "sum"])
@pytest.mark.parametrize("length_exponent", [None, 0.0, 0.4])
def test_fold_in_is_propagation_to_a_new_node(side, aggregation, length_exponent):
    histories = [[0, 2], [1], [2, 0, 2, 2], [2, 1, 0], [0]]
    torch.manual_seed(0)
    before = LightGCN(3, 4, 5, aggregation=aggregation)
    wanted = torch.stack([plain_fold_in(before, EDGES, history, side) for history in histories])
    if length_exponent is not None:
        mean = settled(aggregation).item_embeddings.norm(dim=1).mean().item()
        wanted = plain_lengths(wanted, side, length_exponent, mean)
    model = settled(aggregation, length_exponent)
    found = model.fold_in(histories, side=side)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(model.fold_in([torch.tensor(history) for history in histories], side=side), found)
    assert torch.equal(model.fold_in([torch.tensor(histories[0]), *histories[1:]], side=side), found)


def random_histories(count, items):
    rng = random.Random(0)
    return [[rng.randrange(items) for _ in range(rng.randint(1, 30))] for _ in range(count)]


@pytest.mark.parametrize("unit", [False, True])
def test_a_batch_of_histories_is_its_rows_alone(unit):
    torch.manual_seed(0)
    model = LightGCN(40, 50, 8)
    model.settle(torch.stack([torch.randint(40, (300,)), torch.randint(50, (300,))]))
    if unit:
        model.to_unit_rows()
    histories = random_histories(1000, 50)
    together = model.fold_in(histories)
    alone = torch.cat([model.fold_in([history]) for history in histories])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)
    assert together.shape == (1000, 8)
    assert model.fold_in([]).shape == (0, 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_fold_in_keeps_the_dtype_and_the_device_of_the_tables(dtype):
    model = settled()
    wanted = model.fold_in([[0, 1], [2, 3, 1]]).to(dtype)
    model.to(dtype)
    # A tensor made on the default device, and not on the tables', would have no values here.
    with torch.device("meta"):
        found = model.fold_in([[0, 1], [2, 3, 1]])
        shares = model.fold_in_shares([[0, 1], [2, 3, 1]], model.item_embeddings[:2])
    torch.testing.assert_close(found, wanted)
    own = model.item_fold_in[[1, 2, 3]].double().sum(dim=0) / 3**0.5
    torch.testing.assert_close(found[1].double(), own, rtol=2 * torch.finfo(dtype).eps, atol=2 * torch.finfo(dtype).eps)
    assert {share.device.type for share in shares} == {"cpu"}


@pytest.mark.parametrize("side", ["user", "item"])
def test_shares_add_up_to_the_inner_product(side):
    histories = [[2, 0], [1], [2, 2, 1, 0]]
    raw, unit = settled(), settled(length_exponent=0.0)
    others = torch.randn(3, 5)
    one_each = raw.fold_in([[entry] for entry in range(3)], side=side)
    for row, history in enumerate(histories):
        entries = sorted(set(history))
        wanted = one_each[entries] @ others[row] / len(entries) ** 0.5
        torch.testing.assert_close(raw.fold_in_shares(histories, others, side=side)[row], wanted)
        wanted = wanted / raw.fold_in([history], side=side).norm()
        torch.testing.assert_close(unit.fold_in_shares(histories, others, side=side)[row], wanted)
        torch.testing.assert_close(wanted.sum(), unit.fold_in([history], side=side)[0] @ others[row])
        long = settled(length_exponent=0.4)
        shares = long.fold_in_shares(histories, others, side=side)[row]
        torch.testing.assert_close(shares.sum(), long.fold_in([history], side=side)[0] @ others[row])


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([[1], []], "history 1 is empty; give at least one item"),
        ([[]], "history 0 is empty"),
        ([[0, 3], [1, 4, 9]], "history 1 has index 9, expected 0 to 3"),
        ([[0], [9, -2]], "history 1 has index -2, expected 0 to 3"),
        ([[0], [4], []], "history 1 has index 4"),
        ([[0], [], [4]], "history 1 is empty"),
        ([torch.tensor([0]), torch.tensor([4])], "history 1 has index 4"),
        ([[1.0, 2.0]], "expected for each history a list of item indices, found torch.float32"),
        ([[True]], "expected for each history a list of item indices, found torch.bool"),
        ([torch.tensor([[0, 1]])], r"found torch.int64 \(1, 2\)"),
        ([["i1"]], "expected for each history a list of item indices"),
        ([1, 2], "expected for each history a list of item indices"),
    ],
)
def test_bad_histories_are_named(histories, message):
    for call in (lambda model: model.fold_in(histories), lambda model: model.fold_in_shares(histories, torch.zeros(2, 5))):
        with pytest.raises(ValueError, match=message):
            call(settled())


def test_fold_in_names_the_side_it_was_given():
    with pytest.raises(ValueError, match="history 0 has index 3, expected 0 to 2"):
        settled().fold_in([[3]], side="item")
    with pytest.raises(ValueError, match="history 0 is empty; give at least one user"):
        settled().fold_in([[]], side="item")
    with pytest.raises(ValueError, match="side='items'; expected 'user' or 'item'"):
        settled().fold_in([[0]], side="items")


@pytest.mark.parametrize(("users", "items"), [(3, 4), (0, 0)])
def test_a_model_without_fold_in_tables_says_so(users, items):
    model = LightGCN(users, items, 5)
    with pytest.raises(ValueError, match=r"stores no fold-in tables \(item_fold_in is all zero\); settle.* user_embeds"):
        model.fold_in([[0]])
    with pytest.raises(ValueError, match=r"stores no fold-in tables \(user_fold_in is all zero\); settle.* item_embeds"):
        model.fold_in([[0]], side="item")


def test_fold_in_needs_one_filled_row_only():
    model = LightGCN(3, 4, 5)
    model.item_fold_in[1] = 1
    assert torch.equal(model.fold_in([[1], [2]]), torch.tensor([[1.0] * 5, [0.0] * 5]))
