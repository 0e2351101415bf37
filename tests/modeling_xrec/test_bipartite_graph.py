import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import count_duplicates, normalized_adjacency, propagate_once


@st.composite
def graphs(draw):
    """Users, items and edges, some of them repeated, some nodes without any."""
    users, items = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    return users, items, torch.tensor(draw(st.lists(pair, min_size=1, max_size=30))).T


def plain_adjacency(edges, users, items):
    """D^-1/2 A D^-1/2 by the definition, in double precision."""
    dense = torch.zeros(users + items, users + items, dtype=torch.float64)
    for user, item in edges.T.tolist():
        dense[user, users + item] = dense[users + item, user] = 1
    degrees = dense.sum(dim=1)
    for row in range(users + items):
        for column in range(users + items):
            if dense[row, column]:
                dense[row, column] = 1 / (degrees[row] * degrees[column]) ** 0.5
    return dense


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_adjacency_is_the_plain_one_symmetric_and_of_radius_one(graph):
    users, items, edges = graph
    adjacency = normalized_adjacency(edges, users, items)
    torch.testing.assert_close(adjacency.to_dense().double(), plain_adjacency(edges, users, items))
    assert torch.equal(adjacency.to_dense(), adjacency.to_dense().T)
    # Every component with an edge has the eigenvalue 1, and none is larger.
    assert abs(float(torch.linalg.eigvalsh(adjacency.to_dense().double()).abs().max()) - 1) < 1e-6


@given(graphs())
@settings(max_examples=40, deadline=None)
def test_duplicates_are_merged_and_counted(graph):
    users, items, edges = graph
    distinct = len({tuple(pair) for pair in edges.T.tolist()})
    assert count_duplicates(edges, items) == edges.shape[1] - distinct
    adjacency = normalized_adjacency(edges, users, items)
    assert adjacency.values().numel() == 2 * distinct
    twice = torch.cat([edges, edges.flip(1)], dim=1)
    assert count_duplicates(twice, items) == 2 * edges.shape[1] - distinct
    assert torch.equal(normalized_adjacency(twice, users, items).to_dense(), adjacency.to_dense())


def settled(edges, users, items, tables):
    model = LightGCN(users, items, 3, num_layers=2, aggregation=[0.2, 0.3, 0.5])
    model.load_state_dict(dict(zip(("user_embeddings", "item_embeddings"), tables, strict=True)), strict=False)
    model.settle(edges)
    return model.state_dict()


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_propagation_knows_no_order_of_edges_and_follows_new_labels(graph, random):
    users, items, edges = graph
    generator = torch.Generator().manual_seed(random.randrange(2**31))
    tables = [torch.randn(size, 3, generator=generator) for size in (users, items)]
    wanted = settled(edges, users, items, tables)
    shuffled = settled(edges[:, torch.randperm(edges.shape[1], generator=generator)], users, items, tables)
    assert all(torch.equal(shuffled[name], table) for name, table in wanted.items())
    labels = {"user": torch.randperm(users, generator=generator), "item": torch.randperm(items, generator=generator)}
    moved = torch.stack([labels["user"][edges[0]], labels["item"][edges[1]]])
    moved_tables = [torch.empty_like(table) for table in tables]
    for table, source, new in zip(moved_tables, tables, labels.values(), strict=True):
        table[new] = source
    found = settled(moved, users, items, moved_tables)
    for name, table in wanted.items():
        torch.testing.assert_close(found[name][labels[name.split("_")[0]]], table, atol=1e-6, rtol=1e-5)


def test_the_product_is_the_dense_one_with_small_indices():
    torch.manual_seed(0)
    edges = torch.stack([torch.randint(60, (500,)), torch.randint(40, (500,))])
    adjacency, rows = normalized_adjacency(edges, 60, 40), torch.randn(100, 16)
    assert adjacency.col_indices().dtype == adjacency.crow_indices().dtype == torch.int32
    wanted = plain_adjacency(edges, 60, 40) @ rows.double()
    torch.testing.assert_close(propagate_once(adjacency, rows).double(), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (torch.tensor([[0, 5], [0, 1]]), r"edge 1 has user index 5, expected 0 to 2 \(1 such edges\); raise num_users"),
        (torch.tensor([[-1, 0, -2], [0, 0, 1]]), r"edge 0 has user index -1, expected 0 to 2 \(2 such edges\)"),
        (torch.tensor([[0, 1], [0, -1]]), "edge 1 has item index -1, expected 0 to 3"),
        (torch.tensor([[0, 1], [0, 4]], dtype=torch.int32), "edge 1 has item index 4"),
        (torch.zeros(2, 3), r"expected integer edges .* found torch.float32 \(2, 3\); put user"),
        (torch.full((2, 3), float("nan")), "expected integer edges"),
        (torch.zeros(2, 3, dtype=torch.bool), r"found torch.bool \(2, 3\)"),
        (torch.zeros(2, 3, dtype=torch.complex64), r"found torch.complex64 \(2, 3\)"),
        (torch.zeros(3, 2, dtype=torch.long), r"expected integer edges of shape \(2, edges\), found torch.int64 \(3, 2\)"),
        (torch.zeros(2, dtype=torch.long), r"found torch.int64 \(2,\)"),
        ([[0, 1], [0, 1]], "found list; put user indices in row 0"),
        (torch.zeros(2, 0, dtype=torch.long), "expected at least one edge, found none"),
    ],
)
def test_bad_edges_are_named(edges, message):
    for call in (normalized_adjacency, lambda edges, *_: LightGCN(3, 4, 5).settle(edges)):
        with pytest.raises(ValueError, match=message) as error:
            call(edges, 3, 4)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", ["user", "item"])
def test_a_table_with_nan_is_not_settled(side, value):
    model = LightGCN(3, 4, 5)
    with torch.no_grad():
        getattr(model, f"{side}_embeddings")[1:3, 2] = value
    with pytest.raises(ValueError, match=rf"{side}_embeddings row 1 holds NaN or infinity \(2 such rows\)"):
        model.settle(torch.tensor([[0, 1], [0, 1]]))
    assert not model.is_settled()


def test_a_matrix_of_another_size_is_refused():
    adjacency = normalized_adjacency(torch.tensor([[0, 1], [0, 1]]), 3, 4)
    with pytest.raises(ValueError, match=r"expected an adjacency matrix of 8 nodes .* found 7"):
        LightGCN(3, 5, 2).propagate(adjacency=adjacency)


def test_layer_weights_must_be_finite_and_one_a_layer():
    with pytest.raises(ValueError, match="aggregation has weight nan for layer 1; expected finite numbers"):
        LightGCN(3, 4, 5, num_layers=2, aggregation=[0.2, float("nan"), 0.5])
    with pytest.raises(ValueError, match="expected 'mean', 'sum' or 3 weights, one a layer"):
        LightGCN(3, 4, 5, num_layers=2, aggregation=[0.2, 0.5])
