import json

import pytest

FEW = {"clients": 8, "seconds": 1.0, "base_seconds": 1.0, "rounds": 1, "max_batch": 8}


@pytest.fixture(scope="module")
def script(benchmark_script):
    found = benchmark_script("serving_load")
    found.WARM_SECONDS = 0.2
    return found


@pytest.fixture(scope="module")
def figures(script, tiny_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "load.json"
    words = [word for name, value in FEW.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert script.main([str(tiny_run), *words, "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.mark.slow
def test_both_servers_answer_every_request_and_only_one_of_them_batches(figures):
    assert figures["errors"] == 0
    for name in ("batched", "one_at_a_time"):
        assert set(figures[name]["statuses"]) == {"200"}
        assert figures[name]["statuses"]["200"] >= FEW["clients"]
        assert 0 < figures[name]["p50_seconds"] <= figures[name]["p99_seconds"]
    assert figures["one_at_a_time"]["rows_a_call"] == 1
    assert 2 < figures["batched"]["rows_a_call"] <= FEW["max_batch"]


@pytest.mark.slow
def test_the_ratio_is_that_of_the_answers_and_the_memory_is_a_processes(figures):
    ratio = figures["batched"]["answers_a_second"][0] / figures["one_at_a_time"]["answers_a_second"][0]
    assert figures["times_faster"] == pytest.approx(ratio)
    assert figures["reached"] == (ratio >= 4 and figures["memory_grows_by"] <= 0.05)
    assert 100 < min(figures["batched"]["memory_mb"]) < 5000


def test_pairs_are_the_models_and_the_same_for_both(script, tiny_run):
    first, second = (script.random_pairs(tiny_run, 0) for _ in range(2))
    pairs = [next(first) for _ in range(50)]
    assert pairs == [next(second) for _ in range(50)]
    users = {row["user_id"] for row in json.loads((tiny_run / "users.json").read_text())}
    assert {pair["user_id"] for pair in pairs} <= users
    assert len({(pair["user_id"], pair["item_id"]) for pair in pairs}) > 40
