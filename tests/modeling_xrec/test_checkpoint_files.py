import json

import pytest
import torch

from modeling_xrec import XRecForCausalLM

PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31]])
IDS = {"user_ids": torch.tensor([3]), "item_ids": torch.tensor([2])}


@torch.no_grad()
def logits(model):
    return model(PROMPT, **IDS).logits


def test_large_tables_are_saved_in_shards(tiny_xrec, tmp_path, sized):
    model = sized(tiny_xrec(num_users=400, num_items=300))
    model.save_pretrained(tmp_path / "model", max_shard_size="13KB")
    assert len(list((tmp_path / "model").glob("collaborative-*.safetensors"))) == 4
    again = XRecForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert (again.config.num_users, again.config.num_items) == (400, 300)


def test_tables_stay_away_where_the_caller_passes_embeddings(tiny_xrec, tmp_path, sized):
    model = sized(tiny_xrec())
    model.save_pretrained(tmp_path / "model")
    embeds = {
        "user_embeds": model.lightgcn.user_embeddings[IDS["user_ids"]],
        "item_embeds": model.lightgcn.item_embeddings[IDS["item_ids"]],
    }
    (tmp_path / "model" / "collaborative.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no collaborative.safetensors.*5 users and 7 items.*load_tables=False"):
        XRecForCausalLM.from_pretrained(tmp_path / "model")
    light = XRecForCausalLM.from_pretrained(tmp_path / "model", load_tables=False)
    assert (light.config.num_users, light.lightgcn.num_users) == (0, 0)
    with torch.no_grad():
        torch.testing.assert_close(light(PROMPT, **embeds).logits, logits(model))
    with pytest.raises(ValueError, match="the model stores 0 users; use indices below that, or pass user_embeds"):
        light(PROMPT, **IDS)


def flip_a_bit(file, tensor):
    """Flips one bit of the middle of a tensor's bytes."""
    raw = bytearray(file.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    start, end = json.loads(raw[8 : 8 + length])[tensor]["data_offsets"]
    raw[8 + length + (start + end) // 2] ^= 1
    file.write_bytes(raw)


@pytest.mark.parametrize(
    ("file", "tensor", "name"),
    [
        ("model.safetensors", "item_adapter.expert_weight", "item_adapter.expert_weight"),
        ("collaborative.safetensors", "user_fold_in", "lightgcn.user_fold_in"),
    ],
)
def test_a_flipped_bit_is_noticed(tiny_xrec, tmp_path, sized, file, tensor, name):
    model = sized(tiny_xrec())
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    XRecForCausalLM.from_pretrained(folder)
    flip_a_bit(folder / file, tensor)
    with pytest.raises(ValueError, match=rf"{name} in .* is not what checksums.json says.*damaged"):
        XRecForCausalLM.from_pretrained(folder)
    (folder / "checksums.json").unlink()
    XRecForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("name", ["user_adapter.gate_weight", "lightgcn.item_embeddings"])
def test_nan_is_noticed_even_when_it_was_saved_so(adapter_only, name):
    model, folder = adapter_only
    with torch.no_grad():
        model.get_parameter(name)[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=f"{name} in .* has 1 NaN or infinite values"):
        XRecForCausalLM.from_pretrained(folder)


def test_tables_of_other_sizes_than_announced_are_refused(adapter_only):
    _, folder = adapter_only
    config = json.loads((folder / "config.json").read_text())
    config["num_users"] = 6
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"holds .*\(5, 8\).*expected .*\(6, 8\)"):
        XRecForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("order", [("50GB", "3KB"), ("3KB", "50GB")])
def test_a_save_over_an_older_one_leaves_the_newest_weights(tiny_xrec, tmp_path, order, sized):
    old, new = sized(tiny_xrec()), sized(tiny_xrec())
    for model, shard_size in zip((old, new), order, strict=True):
        with torch.no_grad():
            model.user_adapter.gate_weight.normal_()
            model.lightgcn.user_embeddings.normal_()
        model.save_pretrained(tmp_path / "model", max_shard_size=shard_size)
    again = XRecForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in new.state_dict().items())


def test_tables_are_in_single_precision_like_the_adapters(tiny_xrec, tmp_path):
    tiny_xrec().to(torch.bfloat16).save_pretrained(tmp_path)
    model = XRecForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {t.dtype for t in model.lightgcn.state_dict().values()} == {torch.float32}
    assert model.user_adapter.gate_weight.dtype == torch.float32
