import pytest
import torch

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from xrec_training.sampled_propagation import distinct, propagate_sampled, thin_rows

USERS, ITEMS = 30, 20


@pytest.fixture(scope="module")
def graph():
    """A random graph with a user and an item of no edge, and the tables of a model with uneven layer weights."""
    torch.manual_seed(0)
    touched = torch.rand(USERS - 1, ITEMS - 1) < torch.rand(ITEMS - 1)
    edges = touched.nonzero().T
    model = LightGCN(USERS, ITEMS, 4, num_layers=3, aggregation=(0.2, 0.3, 0.1, 0.4))
    return edges, model, normalized_adjacency(edges, USERS, ITEMS)


def draw(generator=None, layers=3):
    return torch.rand(layers, USERS + ITEMS, generator=generator, dtype=torch.float64)


def largest_degree(adjacency):
    return int(adjacency.crow_indices().diff().max())


def test_equals_full_propagation_with_its_gradients_where_no_neighbour_is_left_out(graph):
    _, model, adjacency = graph
    users, items = model.propagate(adjacency=adjacency)
    targets = torch.tensor([3, 29, 17, 49, 30, 41])
    wanted = torch.cat([users, items])[targets]
    factors = torch.randn(wanted.shape)
    gradients = torch.autograd.grad((wanted * factors).sum(), [model.user_embeddings, model.item_embeddings])

    table = torch.cat([model.user_embeddings, model.item_embeddings]).detach().requires_grad_()
    found = propagate_sampled(table, adjacency, targets, model.layer_weights, largest_degree(adjacency), draw())
    (found * factors).sum().backward()
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert table.grad.is_sparse
    torch.testing.assert_close(table.grad.to_dense(), torch.cat(gradients), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("neighbours", [1, 3, 8])
def test_the_mean_over_draws_is_full_propagation(graph, neighbours):
    """Every entry's mean lies within five standard errors, and the draws do differ."""
    _, model, adjacency = graph
    table = torch.cat([model.user_embeddings, model.item_embeddings]).detach()
    wanted = torch.cat(model.propagate(adjacency=adjacency)).detach()
    generator, targets = torch.Generator().manual_seed(1), torch.arange(USERS + ITEMS)
    draws = torch.stack(
        [propagate_sampled(table, adjacency, targets, model.layer_weights, neighbours, draw(generator)) for _ in range(400)]
    ).double()
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert error.max() > 1e-4
    assert ((draws.mean(dim=0) - wanted).abs() <= 5 * error + 1e-6).all()


def test_a_row_keeps_its_neighbours_or_draws_distinct_ones_each_as_often(graph):
    edges, _, adjacency = graph
    degrees = adjacency.crow_indices().diff()
    nodes, generator = torch.arange(USERS + ITEMS), torch.Generator().manual_seed(2)
    times_drawn = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    for _ in range(400):
        rows = thin_rows(adjacency, nodes, 4, draw(generator, layers=1)[0])
        ends = torch.cat([rows.offsets[1:], torch.tensor([len(rows.columns)])])
        assert ((ends - rows.offsets) == degrees.clamp(max=4)).all()
        row = nodes.repeat_interleave(ends - rows.offsets)
        assert len(torch.stack([row, rows.columns]).unique(dim=1)[0]) == len(row)
        times_drawn.index_put_((row, rows.columns), torch.ones(len(row)), accumulate=True)
    touched = torch.zeros(USERS + ITEMS, USERS + ITEMS)
    touched[edges[0], edges[1] + USERS] = touched[edges[1] + USERS, edges[0]] = 1
    chance = touched * (4 / degrees.clamp(min=4)).unsqueeze(1)
    noise = (chance * (1 - chance) / 400).sqrt()
    assert ((times_drawn / 400 - chance).abs() <= 5 * noise).all()


def test_what_a_node_draws_does_not_depend_on_the_other_nodes_of_its_batch(graph):
    _, model, adjacency = graph
    table, shifts = torch.cat([model.user_embeddings, model.item_embeddings]).detach(), draw()
    together = propagate_sampled(table, adjacency, torch.arange(50), model.layer_weights, 2, shifts)
    for part in (torch.arange(0, 50, 2), torch.tensor([49, 7])):
        alone = propagate_sampled(table, adjacency, part, model.layer_weights, 2, shifts)
        torch.testing.assert_close(alone, together[part])


def test_a_shift_close_to_one_stays_inside_the_row(graph):
    _, _, adjacency = graph
    nodes = torch.arange(USERS + ITEMS)
    shifts = torch.full((USERS + ITEMS,), 1 - 2**-53, dtype=torch.float64)
    for neighbours in range(1, 8):
        rows = thin_rows(adjacency, nodes, neighbours, shifts)
        dense = adjacency.to_dense()
        counts = adjacency.crow_indices().diff().clamp(max=neighbours)
        assert (dense[nodes.repeat_interleave(counts), rows.columns] > 0).all()


def test_distinct_is_unique_with_its_inverse():
    indices = torch.tensor([7, 2, 2, 9, 0, 7])
    for found, wanted in zip(distinct(indices, 10), indices.unique(return_inverse=True), strict=True):
        assert torch.equal(found, wanted)
