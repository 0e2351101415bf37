import json
import math

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from modeling_xrec import LightGCN
from xrec_dataset_builder.errors import DataError
from xrec_training.graph_folder import read_any_graph, read_graph, table_files, write_graph
from xrec_training.tables import Catalogue

USERS, ITEMS = [f"u{number:02}" for number in range(30)], [f"i{number:02}" for number in range(20)]
CATALOGUE = Catalogue(pl.DataFrame({"user_id": USERS}), pl.DataFrame({"item_id": ITEMS}))


@pytest.fixture
def settled():
    torch.manual_seed(0)
    model = LightGCN(30, 20, 8, 2, (0.2, 0.3, 0.5)).requires_grad_(False)
    model.settle(torch.stack([torch.randint(30, (200,)), torch.randint(20, (200,))]))
    return model


@pytest.mark.parametrize(("size", "files"), [("5GB", 1), (1000, 4)])
def test_a_graph_is_read_as_it_was_written_whole_or_in_shards(settled, tmp_path, size, files):
    write_graph(settled, tmp_path, CATALOGUE, size)
    assert len(table_files(tmp_path)) == files
    assert (tmp_path / "collaborative.safetensors.index.json").is_file() == (files > 1)
    model, ids = read_any_graph(tmp_path)
    for again in (read_graph(tmp_path, CATALOGUE), model):
        assert again.layer_weights == (0.2, 0.3, 0.5)
        assert again.num_layers == 2
        assert not any(parameter.requires_grad for parameter in again.parameters())
        assert all(torch.equal(table, again.state_dict()[name]) for name, table in settled.state_dict().items())
    assert {side: list(column) for side, column in ids.items()} == {"user": USERS, "item": ITEMS}


def broken_table(folder):
    (folder / "collaborative.safetensors").write_bytes(b"no header")


def nan_table(folder):
    tables = {"user_embeddings": torch.full((30, 8), math.nan), "user_fold_in": torch.ones(30, 8)}
    save_file(tables | {f"item_{part}": torch.ones(20, 8) for part in ("embeddings", "fold_in")}, table_files(folder)[0])


def other_shapes(folder):
    save_file({f"{side}_embeddings": torch.ones(30, 8) for side in ("user", "item")}, table_files(folder)[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_table, r"expected the tables of a graph, found a broken file \(.*\); encode again"),
        (nan_table, "user_embeddings holds NaN or infinity; run `xrec encode` again"),
        (other_shapes, r"found a broken file \(.*user_fold_in"),
        (lambda folder: (folder / "graph.json").unlink(), r"expected graph.json, found none; run `xrec encode DATA"),
        (lambda folder: (folder / "graph.json").write_text("{}"), r"found a broken file \('layer_weights'\)"),
        (lambda folder: table_files(folder)[0].unlink(), "expected collaborative.safetensors, found none"),
    ],
)
def test_a_damaged_graph_is_refused_in_one_line(settled, tmp_path, damage, message):
    write_graph(settled, tmp_path, CATALOGUE)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read_graph(tmp_path, CATALOGUE)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_noticed(settled, tmp_path):
    write_graph(settled, tmp_path, CATALOGUE, 1000)
    table_files(tmp_path)[1].unlink()
    with pytest.raises(DataError, match="found a broken file"):
        read_graph(tmp_path, CATALOGUE)


def test_the_file_about_a_graph_names_no_user(settled, tmp_path):
    write_graph(settled, tmp_path, CATALOGUE)
    about = json.loads((tmp_path / "graph.json").read_text())
    assert about == {"catalogue": CATALOGUE.fingerprint(), "layer_weights": [0.2, 0.3, 0.5], "length_exponent": 0.0}
