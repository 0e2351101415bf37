import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrec_evaluation.charts import Bar, bar_chart, line_chart, scatter

number = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(number, min_size=1, max_size=6))
def test_bars_start_at_zero_and_end_at_their_value(values):
    found = bar_chart([Bar("a", "model", value, None, None, "") for value in values])
    ticks = {tick["value"]: tick["x"] for tick in found["ticks"]}
    assert min(abs(value) for value in ticks) < 1e-9
    assert 2 <= len(ticks) <= 12
    low, high = min(ticks), max(ticks)
    step = (high - low) / (len(ticks) - 1)
    for bar, value in zip(found["bars"], values, strict=True):
        end = bar["x"] + bar["width"] if value >= 0 else bar["x"]
        assert end == pytest.approx(100 * (value - low) / (high - low), abs=0.03)
        start = bar["x"] if value >= 0 else bar["x"] + bar["width"]
        assert start == pytest.approx(found["zero"], abs=0.03)
        assert low - 0.06 * step <= value <= high + 1e-6 * step


def test_a_line_goes_through_its_points():
    found = line_chart([("1", 0.0, -0.1, 0.1), ("2", 1.0, 0.9, 1.1), ("3", 0.5, None, None)])
    assert [point["label"] for point in found["points"]] == ["1", "2", "3"]
    heights = [point["y"] for point in found["points"]]
    assert heights[1] < heights[2] < heights[0] == pytest.approx(found["zero"])  # up is less
    assert [(line["x1"], line["x2"]) for line in found["lines"]] == [(16.67, 50.0), (50.0, 83.33)]
    assert found["points"][2]["low"] is None


def test_a_map_keeps_its_proportions():
    found = scatter([(0, 0), (4, 1), (2, 0.5)], [0, 1, 1], ["a", "b", "c"])
    assert [point["x"] for point in found] == [2, 98, 50]
    assert found[1]["y"] - found[0]["y"] == pytest.approx(-24)
    assert scatter([(1, 1)], [0], ["alone"])[0]["x"] == 2
