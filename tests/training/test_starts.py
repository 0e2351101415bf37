import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from xrec_dataset_builder.build import build
from xrec_dataset_builder.errors import DataError
from xrec_training.encode import EncodeOptions, encode
from xrec_training.graph_folder import write_graph
from xrec_training.starts import ENTRY_SIZE, spectrum, start_from_graph, start_from_spectrum
from xrec_training.tables import Catalogue


def edges(users=30, items=20, count=200):
    pairs = torch.randperm(users * items, generator=torch.Generator().manual_seed(0))[:count]
    return torch.stack([pairs // items, pairs % items])


def catalogue_of(users, items):
    return Catalogue(pl.DataFrame({"user_id": users}), pl.DataFrame({"item_id": items}))


def graph_of(folder, users, items, train, dim=4):
    """A settled graph of random tables in a folder."""
    torch.manual_seed(1)
    model = LightGCN(len(users), len(items), dim, 2).requires_grad_(False)
    model.settle(train)
    model.to_unit_rows()
    folder.mkdir()
    write_graph(model, folder, catalogue_of(users, items))
    return model


def test_the_spectrum_is_the_one_numpy_finds():
    train = edges()
    block = normalized_adjacency(train, 30, 20).to_dense()[:30, 30:].numpy()
    torch.manual_seed(0)
    left, values, right = spectrum(normalized_adjacency(train, 30, 20), 30, 20, 6)
    expected = np.linalg.svd(block)
    np.testing.assert_allclose(values.numpy(), expected.S[:6], atol=1e-2)
    best = (expected.U[:, :6] * expected.S[:6]) @ expected.Vh[:6]
    np.testing.assert_allclose(((left * values) @ right.T).numpy(), best, atol=0.03)


def test_a_graph_smaller_than_the_width_gets_small_random_columns_beyond_its_rank():
    train = edges()
    model = LightGCN(30, 20, 24)
    start_from_spectrum(model, normalized_adjacency(train, 30, 20))
    table = torch.cat([model.user_embeddings, model.item_embeddings]).detach()
    assert table[:, :20].square().mean().sqrt().item() == pytest.approx(ENTRY_SIZE, rel=1e-4)
    assert 0 < table[:, 20:].square().mean().sqrt().item() < ENTRY_SIZE / 5


def test_rows_of_an_earlier_graph_are_found_by_id_and_new_ones_folded_in(tmp_path):
    old = graph_of(tmp_path / "old", ["a", "c", "d"], ["p", "q"], torch.tensor([[0, 1, 2, 2], [0, 1, 0, 1]]))
    catalogue = catalogue_of(["a", "b", "c", "d", "z"], ["n", "p", "q"])
    train = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 1, 2, 2, 1, 0]])  # b touches p and q, z only the new n
    model = LightGCN(5, 3, 4, 2)
    counts = start_from_graph(model, train, catalogue, tmp_path / "old")
    assert counts == {"kept": 5, "folded_in": 1, "random": 2}
    users, items = model.user_embeddings.detach(), model.item_embeddings.detach()
    for new, before in ((0, 0), (2, 1), (3, 2)):
        torch.testing.assert_close(F.normalize(users[new], dim=0), old.user_embeddings[before])
    for new, before in ((1, 0), (2, 1)):
        torch.testing.assert_close(F.normalize(items[new], dim=0), old.item_embeddings[before])
    torch.testing.assert_close(F.normalize(users[1], dim=0), old.fold_in([[0, 1]])[0])
    assert users[4].any()
    assert items[0].any()


def test_an_earlier_graph_that_cannot_be_used_is_refused(tmp_path):
    graph_of(tmp_path / "old", ["a"], ["p"], torch.tensor([[0], [0]]))
    catalogue, train = catalogue_of(["a"], ["p"]), torch.tensor([[0], [0]])
    with pytest.raises(DataError, match=r"expected embeddings of --dim 8, found 4; use its --dim"):
        start_from_graph(LightGCN(1, 1, 8), train, catalogue, tmp_path / "old")
    with pytest.raises(DataError, match=r"expected collaborative.safetensors, found none"):
        start_from_graph(LightGCN(1, 1, 4), train, catalogue, tmp_path)
    tensors = load_file(tmp_path / "old" / "collaborative.safetensors")
    more = {f"user_{part}": torch.ones(2, 4) for part in ("embeddings", "fold_in")}
    save_file(tensors | more, tmp_path / "old" / "collaborative.safetensors")
    with pytest.raises(DataError, match="expected 1 user embeddings, found 2"):
        start_from_graph(LightGCN(1, 1, 4), train, catalogue, tmp_path / "old")


def test_a_warm_restart_begins_where_a_cold_start_ends(tiny_data, tmp_path):
    options = {"dim": 8, "start": "random", "learning_rate": 0.01}
    cold = encode(tiny_data, tmp_path / "cold", EncodeOptions(epochs=12, patience=12, **options), progress=False)
    warm_options = EncodeOptions(epochs=1, **options)
    warm = encode(tiny_data, tmp_path / "warm", warm_options, progress=False, start_from=tmp_path / "cold")
    assert warm["validation_curve"][0] > cold["validation_curve"][0]


def test_a_grown_dataset_starts_from_the_graph_of_the_smaller(tiny_data, tmp_path):
    build("synthetic", tmp_path / "grown", world={"users": 70, "items": 48, "interactions": 700})
    options = EncodeOptions(dim=8, epochs=2)
    encode(tiny_data, tmp_path / "small", options, progress=False)
    metrics = encode(tmp_path / "grown", tmp_path / "graph", options, progress=False, start_from=tmp_path / "small")
    assert metrics["epochs"] == 2
