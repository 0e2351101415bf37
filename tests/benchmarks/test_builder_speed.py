import json

import pytest

pytest.importorskip("networkx")

SMALL = {"small_mb": 2, "large_mb": 4, "broken": 3, "interactions": 4000, "large_interactions": 8000, "k": 8, "repetitions": 1}


@pytest.fixture(scope="module")
def figures(benchmark_script, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "builder.json"
    words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert benchmark_script("builder_speed").main([*words, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_both_ways_of_reading_give_the_same_rows_and_broken_lines(figures):
    reading = figures["reading"]
    assert reading["same"]["same_rows"]
    assert reading["same"]["names_the_first_broken_line"]
    assert reading["loop"]["kept"] == reading["builder"]["kept"] > 200
    assert reading["loop"]["broken"] == reading["builder"]["broken"] == 3
    assert reading["times_faster"] == pytest.approx(reading["loop"]["seconds"] / reading["builder"]["seconds"])
    assert reading["small_mb"] == pytest.approx(2, rel=0.5)


def test_both_ways_of_preparing_keep_the_same_core(figures):
    preparing = figures["preparing"]
    assert preparing["prepare"]["kept"] == preparing["networkx"]["kept"] > 100
    assert preparing["prepare"]["counts"]["duplicates"] > 0
    assert preparing["prepare"]["counts"]["outside_k_core"] > 0
    assert preparing["prepare_large"]["counts"]["read"] == 8000
    assert 50 < preparing["prepare_large"]["peak_mb"] < 6000
