import json

import pytest


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("training_speed")


@pytest.fixture(scope="module")
def figures(script, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "speed.json"
    arguments = ["--size", "tiny", "--prompt-tokens", "24", "--answer-tokens", "6", "--batch", "2", "--batches", "1", "2"]
    arguments += ["--samples", "4", "--repetitions", "2", "--layouts", "chat_frame", "--out", str(out)]
    assert script.main(arguments) == 0
    return json.loads(out.read_text())


@pytest.mark.slow
def test_every_measure_stands_beside_the_reference(script, figures):
    assert figures["backbone_parameters"] > 30_000
    assert {"cpu", "cores", "torch", "transformers"} <= set(figures["machine"])
    measures = figures["layouts"]["chat_frame"]["measures"]
    assert tuple(measures) == script.LADDER
    base = measures["reference"]
    assert (base["times_faster"], base["peak_over_reference"]) == (1, 1)
    for row in measures.values():
        assert row["times_faster"] == pytest.approx(row["samples_per_second"] / base["samples_per_second"])
        assert row["peak_over_reference"] == pytest.approx(row["peak_bytes"] / base["peak_bytes"])


@pytest.mark.slow
def test_the_verdict_is_the_ratio_at_the_memory(figures):
    rows = figures["layouts"]["chat_frame"]["at_memory"]
    assert "2.0" in rows
    for bound, row in rows.items():
        assert row["peak_over_reference"] <= float(bound)
        assert row["met"] == (row["times_faster"] >= row["required"])


@pytest.mark.parametrize("layout", ["default_prompt", "markers_last"])
def test_prompts_are_as_long_as_asked_and_share_what_stands_before_the_markers(script, layout):
    options = script.Options(size="tiny")
    spread, grouped = script.examples(options, layout)
    for rows in (spread, grouped):
        assert len(rows) == options.samples
        lengths = [len(row["ids"]) for row in rows]
        assert 230 < sum(lengths) / len(lengths) < 290
        assert len({tuple(row["ids"][:12]) for row in rows}) == 1
        for row in rows:
            assert [row["ids"].count(marker) for marker in (200, 201)] == [1, 1]
            answer = [label for label in row["labels"] if label != -100]
            assert row["ids"][-len(answer) :] == answer
    places = {row["ids"].index(200) for row in spread}
    assert (places == {12}) == (layout == "default_prompt")
    padding = [max(lengths[start : start + 8]) - min(lengths[start : start + 8]) for start in range(0, options.samples, 8)]
    assert max(padding) < 10  # grouped: nearly none


def test_the_ladder_takes_one_measure_after_another(script):
    """Each rung calls the model as it says, so that the figures are about what they name."""
    options = script.Options(size="tiny", prompt_tokens=24, answer_tokens=6, batch=2, samples=4)
    model, seen = script.build_model(options), {}
    for variant in script.LADDER:
        calls, layers = [], []
        handles = [
            model.get_output_embeddings().register_forward_hook(lambda *call, calls=calls: calls.append(call[2].shape[:-1])),
            model.get_decoder().layers[0].register_forward_hook(lambda *call, layers=layers: layers.append(call[2].shape[0])),
        ]
        train = script.training_call(model, options, "chat_frame", variant, 2)
        train()
        train()
        seen[variant] = ({len(shape) for shape in calls}, layers)
        for handle in handles:
            handle.remove()
    assert seen["reference"] == ({2}, [1] * 8)
    assert seen["batch"] == seen["grouped"] == ({2}, [2] * 4)
    assert seen["answers_only"] == ({1}, [2] * 4)
    assert seen["fused_head"] == (set(), [2] * 4)
    assert seen["prefix_apart"] == (set(), [1, 2] * 4)
    assert seen["prefix_kept"] == (set(), [1, 2, 2, 2, 2])
