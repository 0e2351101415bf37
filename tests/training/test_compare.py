import importlib.util
import json
import math
import sys

import pytest
import torch

from xrec_dataset_builder.errors import DataError
from xrec_training import compare
from xrec_training.cli import main
from xrec_training.compare import METHODS, compare_methods, held_out_metrics, popularity_metrics
from xrec_training.encode import EncodeOptions, encode
from xrec_training.ranking import ranking_metrics

needs_implicit = pytest.mark.skipif(importlib.util.find_spec("implicit") is None, reason="needs the extra `compare`")
FIGURES = {f"{split}_{name}" for split in ("validation", "test") for name in ("recall@20", "ndcg@20")}


def two_camps(users=60, items=40, seed=0):
    """Users like the items of their own half: a pair is held out now and then."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.tensor([(u, i) for u in range(users) for i in range(items) if u % 2 == i % 2])
    pairs = pairs[torch.rand(len(pairs), generator=generator) < 0.7]
    fate = torch.rand(len(pairs), generator=generator)
    return {"train": pairs[fate < 0.6].T, "validation": pairs[(fate >= 0.6) & (fate < 0.8)].T, "test": pairs[fate >= 0.8].T}


@needs_implicit
def test_every_method_finds_the_camps_and_popularity_does_not():
    edges = two_camps()
    table = compare_methods(edges, (60, 40), 4, seed=0, progress=False)
    assert list(table) == ["item-kNN", "SVD", "ALS", "BPR"] == list(METHODS)
    for name, figures in table.items():
        assert FIGURES | {"cpu_seconds", "wall_seconds"} <= set(figures)
        # 14 or so of the 20 items of a user's camp are free, so that a list of 20 that knows the camp holds them all
        assert figures["test_recall@20"] > 0.85, name
    assert popularity_metrics(edges, (60, 40))["test_recall@20"] < 0.75


def test_popularity_is_counted_by_hand():
    train = torch.tensor([[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 2]])
    edges = {"train": train, "validation": train[:, :0], "test": torch.tensor([[0, 2], [2, 3]])}
    found = popularity_metrics(edges, (3, 4))
    # Counts are 3, 2, 1, 0. User 0 has items 0 and 1, so 2 is its first; user 2 has 0 and 2, so 3 comes after 1.
    assert found["test_recall@20"] == 1
    assert found["test_ndcg@20"] == pytest.approx((1 + 1 / math.log2(3)) / 2)


@needs_implicit
def test_neighbours_are_the_cosines_of_items():
    edges = two_camps()["train"]
    matrix = torch.zeros(60, 40, dtype=torch.float64)
    matrix[edges[0], edges[1]] = 1.0
    normal = matrix / matrix.norm(dim=0)
    found = METHODS["item-kNN"](edges, (60, 40), 4, 0)(torch.arange(60))
    torch.testing.assert_close(found.double(), matrix @ (normal.T @ normal), rtol=1e-4, atol=1e-4)


def test_figures_of_both_splits_are_those_of_each():
    edges = two_camps()
    torch.manual_seed(0)
    users, items = torch.randn(60, 4), torch.randn(40, 4)
    found = held_out_metrics(lambda part: users[part] @ items.T, edges, (60, 40))
    for split in ("validation", "test"):
        for name, value in ranking_metrics(users, items, edges["train"], edges[split]).items():
            assert found[f"{split}_{name}"] == pytest.approx(value)


@needs_implicit
def test_the_command_prints_and_stores_the_table(tiny_data, tmp_path, capsys):
    assert main(["encode", str(tiny_data), "--out", str(tmp_path / "graph"), "--dim", "8", "--epochs", "2", "--compare"]) == 0
    printed = capsys.readouterr().out
    compared = json.loads((tmp_path / "graph" / "metrics.json").read_text())["compared"]
    assert list(compared) == ["LightGCN", "popularity", *METHODS]
    for name, figures in compared.items():
        line = next(line for line in printed.splitlines() if line.startswith(f"{name} "))
        assert f"{figures['test_recall@20']:.4f}" in line
        assert ("CPU-seconds" in line) == (name != "popularity")
        assert name == "popularity" or f"{figures['cpu_seconds']:.1f} CPU-seconds" in line


def test_without_implicit_the_message_says_what_to_install_before_any_training(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "implicit", None)
    monkeypatch.setattr(compare.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"needs the package 'implicit', found none; install `xrec\[compare\]`"):
        encode(tiny_data, tmp_path / "graph", EncodeOptions(dim=8), progress=False, compare=True)
    assert not list(tmp_path.iterdir())
