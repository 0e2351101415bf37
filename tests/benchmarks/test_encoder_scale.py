import json

import numpy as np
import pytest
import torch

SMALL = {"users": 2000, "items": 1000, "edges": 20_000, "groups": 10, "evaluated": 500}


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("encoder_scale")


@pytest.fixture(scope="module")
def figures(script, tmp_path_factory):
    threads, out = torch.get_num_threads(), tmp_path_factory.mktemp("benchmark") / "scale.json"
    options = SMALL | {"batch_size": 64, "negatives": 128, "dim": 16, "threads": 1}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert script.main([*words, "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    return json.loads(out.read_text())


def test_one_epoch_beats_popularity_in_enough_steps(figures):
    """Of 2,000 users nearly all have an edge, so 64 at a time they make 31 or 32 steps."""
    assert 30 <= figures["steps"] <= 32
    assert figures["training_edges"] == 20_000
    assert figures["trained"]["recall@20"] > 1.1 * figures["popularity"]["recall@20"] > 0
    assert figures["trained"]["users"] == figures["popularity"]["users"] <= 500
    assert figures["met"]


def test_every_phase_has_its_seconds_and_its_memory(figures):
    phases = figures["phases"]
    assert set(phases) == {"generate", "prepare", "adjacency", "start", "epoch", "settle", "evaluate"}
    assert all(row["wall_s"] > 0 and 50 < row["peak_mb"] < 8000 for row in phases.values())
    apart = {"generate", "evaluate"}
    assert figures["training_wall_s"] == pytest.approx(sum(row["wall_s"] for name, row in phases.items() if name not in apart))
    assert figures["peak_mb"] == max(row["peak_mb"] for row in phases.values())


def test_a_phase_sees_its_own_memory_and_no_other(script):
    phases = script.Phases("large")
    large = np.ones(40_000_000)
    del large
    phases.enter("small")
    phases.enter("end")
    assert phases.figures["large"]["peak_mb"] > phases.figures["small"]["peak_mb"] + 250


def test_the_graph_is_the_same_again_distinct_grouped_and_keeps_held_out_edges_apart(script):
    options = script.Options(**SMALL, loyalty=1.0)
    train, held = script.make_edges(options)
    for found, again in zip((train, held), script.make_edges(options), strict=True):
        assert torch.equal(found, again)
    both = torch.cat([train, held], dim=1)
    assert len(both.unique(dim=1)[0]) == both.shape[1]
    assert train.shape[1] == SMALL["edges"]
    assert 0 < len(held[0].unique()) <= SMALL["evaluated"]
    assert both.min() == 0
    assert both[0].max() < SMALL["users"]
    assert both[1].max() < SMALL["items"]
    # All loyal: whoever touches one item of a group touches no item of another.
    touched = torch.zeros(SMALL["users"], SMALL["items"])
    touched[both[0], both[1]] = 1
    linked = (touched.T @ touched > 0).float()
    for _ in range(3):
        linked = (linked @ linked > 0).float()
    assert linked.unique(dim=0).any(dim=1).sum() == SMALL["groups"]


def test_more_edges_than_there_are_pairs_are_refused(script):
    with pytest.raises(ValueError, match="distinct edges"):
        script.make_edges(script.Options(users=20, items=10, edges=500, groups=2, evaluated=5))
