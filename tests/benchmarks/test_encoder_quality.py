import json

import polars as pl
import pytest
import torch

from xrec_training.encode import EncodeOptions, fit, graph_metrics

pytest.importorskip("implicit")

pytestmark = pytest.mark.slow  # every training is a process of its own


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("encoder_quality")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    pairs = [(u, i) for u in range(30) for i in range(24) if u % 2 == i % 2 and (u * 5 + i) % 3]
    generator = torch.Generator().manual_seed(0)
    splits = [
        ("train", "train", "train", "validation", "test")[n] for n in torch.randint(5, (len(pairs),), generator=generator)
    ]
    path = tmp_path_factory.mktemp("benchmark") / "yelp.parquet"
    pl.DataFrame({"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs], "split": splits}).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def figures(script, table):
    out = table.with_name("quality.json")
    arguments = ["--data", str(table), "--dims", "64", "--seeds", "0", "1", "--objectives", "softmax", "--threads", "1"]
    assert script.main([*arguments, "--out", str(out)]) == 0
    return json.loads(out.read_text())["data"]["yelp"]


def test_each_seed_is_the_training_that_xrec_encode_does(script, table, figures):
    edges, catalogue = script.read_interactions(table)
    runs = figures["dim_64"]["softmax"]["runs"]
    for seed, run in enumerate(runs):
        model, history = fit(edges["train"], edges["validation"], catalogue, EncodeOptions(seed=seed), progress=False)
        for name, value in graph_metrics(model, edges).items():
            assert run[name] == pytest.approx(value, abs=1e-3)
        assert run["epochs"] == len(history)
        assert run["peak_megabytes"] > 50
    mean = sum(run["test_recall@20"] for run in runs) / 2
    assert figures["dim_64"]["softmax"]["test_recall@20"] == pytest.approx(mean)


def test_floors_and_verdicts_stand_beside_it(figures):
    row = figures["dim_64"]
    assert set(row["floors"]) == {"item-kNN", "SVD", "ALS", "BPR"}
    assert 0 < figures["popularity"]["test_recall@20"] <= 1
    found = row["softmax"]["test_recall@20"]
    assert row["verdicts"]["required_recall@20"] == {"expected": 0.14, "found": found, "met": found >= 0.14}
    assert row["verdicts"]["goal_recall@20"]["expected"] == 0.145
    assert figures["users"] == 30
    assert sum(figures["interactions"].values()) == pytest.approx(30 * 12 * 2 / 3, abs=5)


def test_a_method_is_named_only_when_it_is_both_better_and_faster(script):
    default = {"test_recall@20": 0.2, "test_ndcg@20": 0.1, "cpu_seconds": 10.0}
    floors = {
        "better": {"test_recall@20": 0.3, "cpu_seconds": 11.0},
        "faster": {"test_recall@20": 0.1, "cpu_seconds": 1.0},
        "both": {"test_recall@20": 0.21, "cpu_seconds": 9.0},
    }
    assert script.verdicts("another", 64, default, floors) == {"methods_better_and_faster": ["both"]}


def test_wrong_tables_are_refused(script, tmp_path):
    pl.DataFrame({"user_id": [1], "item_id": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="expected column 'split'"):
        script.read_interactions(tmp_path / "a.parquet")
    pl.DataFrame({"user_id": [1], "item_id": [1], "split": ["dev"]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="found 'dev'; rename it"):
        script.read_interactions(tmp_path / "b.parquet")
