import numpy as np
import pytest


@pytest.fixture(scope="module")
def conditions(benchmark_script):
    return benchmark_script("conditions")


def runs(mean: float, seeds: int) -> list[dict[str, np.ndarray]]:
    """Scores of 400 rows a seed around a mean; rows differ much more than systems do."""
    rows = np.random.default_rng(0).normal(0, 0.3, 400)
    noise = np.random.default_rng(int(100 * mean)).normal(0, 0.02, (seeds, 400))
    return [{"aspect_f1": mean + rows + one, "rouge_l": rows} for one in noise]


def test_differences_are_paired_by_row_over_the_means_of_the_seeds(conditions):
    rows = {"graph": runs(0.5, 3), "zero": runs(0.48, 3), "prompt": runs(0.5, 1)}
    table = conditions.table_of(rows, {name: [{"usr": 0.4}, {"usr": 0.6}] for name in rows})
    graph, zero = (
        np.mean([one["aspect_f1"] for one in rows["graph"]], 0),
        np.mean([one["aspect_f1"] for one in rows["zero"]], 0),
    )
    difference = table["zero"]["graph_minus_this"]["aspect_f1"]
    assert difference["value"] == pytest.approx(graph.mean() - zero.mean())
    assert 0 < difference["low"] < difference["value"] < difference["high"] < 0.03  # unpaired it would reach below 0
    assert table["graph"]["aspect_f1"]["low"] < table["zero"]["aspect_f1"]["value"]  # as the intervals by themselves do
    assert table["prompt"]["graph_minus_this"]["aspect_f1"]["low"] < 0
    assert table["zero"]["aspect_f1"]["by_seed"] == pytest.approx([one["aspect_f1"].mean() for one in rows["zero"]])
    assert (table["zero"]["seeds"], table["prompt"]["seeds"], table["zero"]["usr"]) == (3, 1, 0.5)
    assert "graph_minus_this" not in table["graph"]


def test_every_system_is_a_recipe_that_reads(conditions):
    for changes in conditions.SYSTEMS.values():
        assert conditions.read_recipe(None, changes)
    assert set(conditions.BEATEN) | conditions.ONE_SEED <= set(conditions.SYSTEMS)
