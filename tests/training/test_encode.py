import json

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from modeling_xrec import LightGCN
from modeling_xrec.bipartite_graph import normalized_adjacency
from xrec_dataset_builder.errors import DataError
from xrec_training.encode import EncodeOptions, encode, fit
from xrec_training.tables import Catalogue, read_graph


def checkerboard(users=20, items=20):
    """User and item of the same parity go together: what to recommend is known by construction."""
    pairs = [(u, i) for u in range(users) for i in range(items) if (u + i) % 2 == 0 and (u * 7 + i) % 5]
    held = [(u, i) for u in range(users) for i in range(items) if (u + i) % 2 == 0 and not (u * 7 + i) % 5]
    return torch.tensor(pairs).T, torch.tensor(held).T


@pytest.mark.parametrize("objective", ["softmax", "bpr"])
def test_recommends_what_the_checkerboard_hides(objective):
    train, held = checkerboard()
    table = pl.DataFrame({"user_id": [str(n) for n in range(20)]})
    catalogue = Catalogue(table, table.rename({"user_id": "item_id"}))
    model, _ = fit(train, held, catalogue, EncodeOptions(dim=8, objective=objective, batch_size=64), progress=False)
    known = [[int(i) for u, i in train.T if int(u) == user] for user in range(20)]
    best, scores = model.recommend(torch.arange(20), k=2, exclude=known)
    wanted = [{int(i) for u, i in held.T if int(u) == user} for user in range(20)]
    assert all(int(best[user, 0]) in wanted[user] for user in range(20))
    assert (scores[:, 0] >= scores[:, 1]).all()
    rows = torch.cat([model.user_embeddings, model.item_embeddings])
    assert rows.square().sum(1).mean() == pytest.approx(1.0, abs=1e-5)


def test_encode_leaves_the_graph_and_its_figures_and_repeats_itself(tiny_data, tmp_path):
    options = EncodeOptions(dim=8, epochs=3)
    metrics = encode(tiny_data, tmp_path / "one", options, progress=False)
    encode(tiny_data, tmp_path / "two", options, progress=False)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["collaborative.safetensors", "metrics.json"]
    one, two = (load_file(tmp_path / name / "collaborative.safetensors") for name in ("one", "two"))
    assert set(one) == {"user_embeddings", "item_embeddings", "user_fold_in", "item_fold_in"}
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert json.loads((tmp_path / "one" / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert 0 <= metrics["test_recall@20"] <= 1


def test_a_graph_of_another_dataset_is_refused(tiny_data, tmp_path):
    encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8, epochs=1), progress=False)
    catalogue = Catalogue.read(tiny_data)
    assert read_graph(tmp_path / "graph", catalogue)["item_embeddings"].shape == (catalogue.items.height, 8)
    other = Catalogue(catalogue.users.reverse(), catalogue.items)
    with pytest.raises(DataError, match="made from another dataset"):
        read_graph(tmp_path / "graph", other)
    with pytest.raises(DataError, match=r"expected collaborative.safetensors, found none"):
        read_graph(tmp_path, catalogue)


@pytest.mark.parametrize("wrong", [{"objective": "als"}, {"dim": 0}, {"learning_rate": -1.0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(DataError, match="expected"):
        EncodeOptions(**wrong)


def test_fold_in_equals_propagation_of_the_new_node():
    """A node added with layer 0 = 0, all other layers and degrees held, by the plain definition."""
    train, _ = checkerboard()
    torch.manual_seed(0)
    model = LightGCN(20, 20, 8, num_layers=3)
    layers = model.propagate_layers(normalized_adjacency(train, 20, 20))
    degree = torch.bincount(train[1], minlength=20).float()
    history = [2, 5, 11]
    new = torch.zeros(8)
    for layer in layers[:-1]:
        new = new + sum(layer[20 + item] / (degree[item] * len(history)) ** 0.5 for item in history)
    model.settle(train)
    together = model.fold_in([history, [*history[::-1], 2]])
    torch.testing.assert_close(together, torch.stack([new, new]) / 4)
    with pytest.raises(ValueError, match="history 1 is empty"):
        model.fold_in([[1], []])
    with pytest.raises(ValueError, match="index 20, expected 0 to 19"):
        model.fold_in([[20]])
