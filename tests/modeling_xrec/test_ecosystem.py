"""XRec with what people put on, under and around a causal language model."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, TextStreamer

from modeling_xrec import XRecForCausalLM

from .conftest import beside_its_base

PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31], [1, 104, 8, 9, 10, 105, 40]])
IDS = {"user_ids": torch.tensor([0, 3]), "item_ids": torch.tensor([2, 6])}
OTHER_USERS = {**IDS, "user_ids": torch.tensor([1, 4])}
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
LORA_TARGETS = {
    "llama-grouped": ["q_proj", "v_proj"],
    "phi3": ["qkv_proj"],
    "gpt_neox": ["query_key_value"],
    "qwen3": ["q_proj", "k_proj", "v_proj", "o_proj"],
}


@torch.no_grad()
def logits(model, **kwargs):
    return model(input_ids=PROMPT, **{**IDS, **kwargs}).logits


def lora_of(model, family):
    config = LoraConfig(target_modules=LORA_TARGETS[family], modules_to_save=["user_adapter", "item_adapter"], r=4)
    tuned = get_peft_model(model, config)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return tuned.eval()


@pytest.mark.parametrize("family", LORA_TARGETS)
def test_lora_on_top_trains_saves_loads_and_merges(family, xrec_over, tmp_path):
    before = logits(xrec_over(family))
    tuned = lora_of(xrec_over(family), family)
    after = logits(tuned)
    assert (after - before).abs().max() > 1e-3
    tuned(input_ids=PROMPT, labels=PROMPT, **IDS).loss.backward()
    trained = {name for name, p in tuned.named_parameters() if p.grad is not None and (p.grad != 0).any()}
    assert any("lora_A" in name for name in trained)
    assert any("user_adapter" in name for name in trained)
    assert tuned.generate(input_ids=PROMPT, max_new_tokens=3, **IDS).shape == (2, 10)
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(xrec_over(family), tmp_path).eval()
    torch.testing.assert_close(logits(loaded), after, **CLOSE)
    merged = loaded.merge_and_unload()
    assert isinstance(merged, XRecForCausalLM)
    torch.testing.assert_close(logits(merged), after, **CLOSE)
    assert (logits(merged, **OTHER_USERS) - after).abs().max() > 1e-3
    merged.config.base_model_name_or_path = "somewhere"
    with pytest.raises(ValueError, match="the backbone has changed since it was loaded"):
        merged.save_pretrained(tmp_path / "adapter-sized")
    merged.config.base_model_name_or_path = None
    merged.save_pretrained(tmp_path / "whole")
    torch.testing.assert_close(logits(XRecForCausalLM.from_pretrained(tmp_path / "whole")), after, **CLOSE)


def test_offloaded_backbones_give_the_same_logits(xrec_over, tmp_path):
    model = beside_its_base(xrec_over("llama-grouped"), tmp_path)
    model.save_pretrained(tmp_path / "model")
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu",
              "model.rotary_emb": "cpu", "lm_head": "disk"}  # fmt: skip
    offloaded = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "offload")
    )
    assert offloaded.language_model.model.layers[1].self_attn.q_proj.weight.is_meta
    torch.testing.assert_close(logits(offloaded), logits(model), **CLOSE)
    assert (logits(offloaded, **OTHER_USERS) - logits(model)).abs().max() > 1e-3


def test_a_whole_model_can_be_offloaded(xrec_over, tmp_path):
    model = xrec_over("qwen3")
    model.save_pretrained(tmp_path / "model")
    backbone = {"model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu", "model.norm": "cpu",
                "model.rotary_emb": "cpu", "lm_head": "cpu"}  # fmt: skip
    places = {f"language_model.{name}": place for name, place in backbone.items()}
    places |= dict.fromkeys(["user_adapter", "item_adapter", "lightgcn"], "cpu")
    offloaded = XRecForCausalLM.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "offload")
    )
    torch.testing.assert_close(logits(offloaded), logits(model), **CLOSE)


def test_text_is_streamed(make_xrec):
    processor, model = make_xrec()
    written = []

    class Collect(TextStreamer):
        def on_finalized_text(self, text, stream_end=False):
            written.append(text)

    inputs = processor(user_id="u1", item_id="i1")
    out = model.generate(**inputs, streamer=Collect(processor.tokenizer, skip_prompt=True), max_new_tokens=8, do_sample=False)
    assert len(written) > 1
    assert "".join(written) == processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])


def test_reentrant_checkpointing_is_refused(xrec_over):
    with pytest.raises(ValueError, match="expected use_reentrant=False, found True"):
        xrec_over("llama").activation_checkpointing_enable({"use_reentrant": True})


@pytest.mark.slow
def test_flex_attention_agrees(xrec_over):
    model = xrec_over("llama-grouped")
    wanted = logits(model)
    model.set_attn_implementation("flex_attention")
    torch.testing.assert_close(logits(model, use_cache=False), wanted, atol=1e-4, rtol=1e-3)


def hooked(attention):
    return [m for m in attention.modules() if "_ProjectionOutput" in {type(h).__name__ for h in m._forward_hooks.values()}]


@pytest.mark.quantization
@pytest.mark.parametrize("kind", ["bnb-4bit", "bnb-8bit", "torchao-int8"])
@pytest.mark.parametrize("size", ["full", "adapter"])
@pytest.mark.parametrize("family", ["llama-grouped", "phi3"])
def test_quantised_backbones_hear_the_signal(family, size, kind, xrec_over, tmp_path):
    from transformers import BitsAndBytesConfig, TorchAoConfig

    model = xrec_over(family)
    if size == "adapter":
        beside_its_base(model, tmp_path)
    model.save_pretrained(tmp_path / "model")
    if kind == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig

        config = TorchAoConfig(Int8WeightOnlyConfig())
    else:
        config = BitsAndBytesConfig(**{f"load_in_{kind.removeprefix('bnb-')}": True})
    quantised = XRecForCausalLM.from_pretrained(tmp_path / "model", quantization_config=config)
    assert (logits(quantised, **OTHER_USERS) - logits(quantised)).abs().max() > 1e-3
    found, wanted = logits(quantised).float(), logits(model)
    assert not torch.equal(found, wanted)
    assert torch.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.9
    assert len(hooked(quantised.get_decoder().layers[0].self_attn)) == (1 if family == "phi3" else 3)
    out = quantised.generate(PROMPT, attention_mask=torch.ones_like(PROMPT), max_new_tokens=3, **IDS)
    assert out.shape == (2, 10)
    if size == "adapter":
        quantised.save_pretrained(tmp_path / "again")
        again = XRecForCausalLM.from_pretrained(tmp_path / "again")
        torch.testing.assert_close(logits(again), logits(model), **CLOSE)
