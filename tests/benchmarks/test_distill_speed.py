import json

import pytest

FEW = {"requests": 48, "seconds": 0.05, "concurrency": 16, "at_once": 60, "characters": 300}


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("distill_speed")


@pytest.fixture(scope="module")
def figures(script, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "speed.json"
    words = [word for name, value in FEW.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert script.main([*words, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_every_answer_of_both_endpoints_is_recorded(figures):
    assert (figures["late"]["answered"], figures["late"]["recorded"], figures["late"]["retried"]) == (48, 48, 0)
    assert (figures["at_once"]["answered"], figures["at_once"]["recorded"]) == (60, 60)
    assert 30 < figures["late"]["peak_mb"] < 300


def test_the_rate_is_below_the_ideal_which_the_endpoint_sets(figures):
    """Three rounds of 16 at 50 ms cannot take less than 150 ms."""
    late = figures["late"]
    assert late["ideal"] == 320
    assert late["seconds"] >= 0.15
    assert late["requests_per_second"] == pytest.approx(48 / late["seconds"])
    assert late["share_of_ideal"] == pytest.approx(late["requests_per_second"] / 320)
    assert 0 < late["share_of_ideal"] <= 1


def test_the_questions_are_as_long_as_asked_for_and_all_different(script):
    requests = list(script.requests_of(50, 300))
    assert len({request.hash for request in requests}) == 50
    assert all(300 <= len(request.messages[1][1]) <= 304 for request in requests)
