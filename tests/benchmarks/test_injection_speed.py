import json

import pytest
import torch

DECODE_EXTRA = {"aten.eq.Scalar": 2.0, "aten.bitwise_or.Tensor": 1.0, "aten.masked_fill.Scalar": 1.0}
"""A decoding step beyond the plain backbone's: markers that lie beyond the embedding table are read as 0."""


@pytest.fixture(scope="module")
def scripts(benchmark_script):
    return {name: benchmark_script(name) for name in ("measuring", "injection_speed")}


@pytest.fixture(scope="module")
def figures(scripts, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "speed.json"
    arguments = ["--size", "tiny", "--batches", "1", "3", "--prompt-tokens", "10", "--new-tokens", "4", "--decode-steps", "2"]
    arguments += ["--repetitions", "2", "--rounds", "1", "--single-rows", "2", "--out", str(out)]
    assert scripts["injection_speed"].main(arguments) == 0
    return json.loads(out.read_text())


def test_every_mode_and_batch_is_compared_with_the_plain_backbone(figures):
    assert figures["backbone_parameters"] == 2 * 200 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert figures["options"]["batches"] == [1, 3]
    assert {"cpu", "cores", "torch", "transformers"} <= set(figures["machine"])
    for what, required in (("prefill", 1.03), ("decode", 1.01)):
        assert set(figures[what]) == {"1", "3"}
        for rows in figures[what].values():
            assert set(rows) == {"plain", "qkv", "attention", "input"}
            for mode in ("qkv", "attention", "input"):
                assert rows[mode]["ratio"] == pytest.approx(rows[mode]["median_ms"] / rows["plain"]["median_ms"])
                assert rows[mode]["met"] == (rows[mode]["ratio"] <= required)
                low, high = rows[mode]["ratio_quartiles"]
                assert 0 < low <= high
                more = rows[mode]["operations"] - rows["plain"]["operations"]
                assert rows[mode]["more_operations"] == more == sum(rows[mode]["more_operations_by_kind"].values())


def test_a_decoding_step_dispatches_what_the_plain_backbone_does_and_four_operations_more(figures):
    for rows in figures["decode"].values():
        for mode in ("qkv", "attention", "input"):
            assert rows[mode]["more_operations_by_kind"].items() <= DECODE_EXTRA.items()
            assert rows[mode]["new_bytes_ratio"] < 1.01


def test_prefill_costs_more_operations_in_every_layer_only_where_layers_are_injected(figures):
    rows = figures["prefill"]["3"]
    more = {mode: rows[mode]["more_operations"] for mode in ("qkv", "attention", "input")}
    assert more["qkv"] > more["attention"] > more["input"] > 0


def test_a_batch_is_set_against_single_rows(figures):
    generation = figures["generation"]
    assert (generation["injection"], generation["batch"], generation["new_tokens"]) == ("qkv", 3, 4)
    for phase, required in (("decode", 6.0), ("end_to_end", 3.0)):
        row = generation[phase]
        assert row["times_faster"] == pytest.approx(row["batch_tokens_per_second"] / row["single_tokens_per_second"])
        assert row["met"] == (row["times_faster"] >= required)


def test_the_ledger_counts_operations_and_the_storages_they_make(scripts):
    a = torch.zeros(4, 8)

    def call():
        b = a + 1  # 4 * 8 floats
        c = b.view(8, 4)  # the same storage
        c.mul_(2)  # in place
        return c.double()  # 4 * 8 doubles

    ledger = scripts["measuring"].ledger_of(call)
    assert dict(ledger.operations) == {
        "aten.add.Tensor": 1, "aten.view.default": 1, "aten.mul_.Tensor": 1, "aten._to_copy.default": 1,
    }  # fmt: skip
    assert ledger.new_bytes == 32 * 4 + 32 * 8


def test_interleaved_readings_take_turns_and_skip_the_first(scripts):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = scripts["measuring"].interleave(calls, 2, lambda: None)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_modes_share_the_weights_and_not_the_hooks(scripts):
    module = scripts["injection_speed"]
    models, refused = module.build_models(module.Options(size="tiny"))
    assert (set(models), refused) == ({"plain", "qkv", "attention", "input"}, {})
    plain = dict(models["plain"].named_parameters())
    for mode in ("qkv", "attention", "input"):
        own = dict(models[mode].language_model.named_parameters())
        assert all(own[name].data_ptr() == tensor.data_ptr() for name, tensor in plain.items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in models["plain"].modules())
