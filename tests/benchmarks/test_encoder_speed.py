import json

import polars as pl
import pytest
import torch

pytest.importorskip("torch_geometric", reason="the graph extra is not installed")


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("encoder_speed")


@pytest.fixture(scope="module")
def interactions(tmp_path_factory):
    """Users and items of three groups, with ids that are neither dense nor in order."""
    torch.manual_seed(0)
    pairs = [(u, i) for u in range(60) for i in range(45) if u % 3 == i % 3]
    splits = ["validation" if draw < 0.2 else "train" for draw in torch.rand(len(pairs)).tolist()]
    table = pl.DataFrame(
        {"user_id": [f"u{7 * u}" for u, _ in pairs], "item_id": [1000 - i for _, i in pairs], "split": splits}
    )
    path = tmp_path_factory.mktemp("data") / "interactions.parquet"
    table.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def figures(script, interactions, tmp_path_factory):
    threads, out = torch.get_num_threads(), tmp_path_factory.mktemp("benchmark") / "speed.json"
    words = [str(interactions), "--dim", "8", "--batch", "64", "--repetitions", "2", "--threads", "1", "--epochs", "3"]
    words += ["--reference-seconds", "1000", "--reference-recall", "0.5", "--out", str(out)]
    assert script.main(words) == 0
    torch.set_num_threads(threads)
    return json.loads(out.read_text())


def test_ids_become_numbers_in_their_order(script, interactions):
    graph, table = script.Graph.read(interactions), pl.read_parquet(interactions)
    assert (graph.num_users, graph.num_items) == (60, 45)
    users, items = sorted(table["user_id"].unique()), sorted(str(item) for item in table["item_id"].unique())
    for split, edges in (("train", graph.train), ("validation", graph.validation)):
        wanted = table.filter(pl.col("split") == split).select("user_id", pl.col("item_id").cast(pl.String)).rows()
        assert [(users[u], items[i]) for u, i in edges.T.tolist()] == wanted


def test_the_same_loss_and_gradient_are_timed(figures):
    found = figures["torch_geometric"]
    assert set(found["largest_difference"]) == {"edge_index", "sparse_matrix"}
    assert all(0 <= value < 1e-5 for value in found["largest_difference"].values())
    for what in ("propagation_and_loss", "whole_step"):
        medians = found[what]["median_ms"]
        for name in ("edge_index", "sparse_matrix"):
            assert found[what][name]["times_faster"] == pytest.approx(medians[name] / medians["ours"])
    judged = found["propagation_and_loss"]["edge_index"]
    assert judged["met"] == (judged["times_faster"] >= 3)


def test_another_loss_is_not_timed(script, interactions, monkeypatch):
    graph, options = script.Graph.read(interactions), script.Options(dim=8, batch=64, repetitions=1)
    original = script.bpr_loss
    monkeypatch.setattr(script, "bpr_loss", lambda *rows: 1.001 * original(*rows))
    with pytest.raises(RuntimeError, match="to differ by less than"):
        script.against_torch_geometric(graph, options)


def test_the_reference_is_judged_by_the_run_that_reached_its_recall(figures):
    found = figures["reference"]
    last = found["runs"][-1]
    assert found["reached"] == (last["recall@20"] >= 0.5) is True
    assert [run["epochs"] for run in found["runs"]] == list(range(1, len(found["runs"]) + 1))
    assert all(run["recall@20"] < 0.5 for run in found["runs"][:-1])
    assert found["times_less"] == pytest.approx(1000 / last["cpu_s"])
    assert found["met"] == (found["times_less"] >= 30)


def test_a_recall_that_is_not_reached_is_a_miss(script, interactions):
    options = script.Options(dim=8, epochs=1, reference_seconds=1e9, reference_recall=1.1)
    found = script.against_reference(script.Graph.read(interactions), options)
    assert not found["reached"]
    assert not found["met"]
