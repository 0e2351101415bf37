import pytest
import torch
from peft import LoraConfig, get_peft_model

from modeling_xrec import XRecForCausalLM

MODES = ["qkv", "attention", "input"]
PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31], [1, 104, 8, 9, 10, 105, 40]])
IDS = {"user_ids": torch.tensor([0, 3]), "item_ids": torch.tensor([2, 6])}


@pytest.fixture(params=MODES)
def model(request, tiny_xrec):
    return tiny_xrec(injection=request.param)


@torch.no_grad()
def logits(model, prompt=PROMPT, **kwargs):
    return model(prompt, **{**IDS, **kwargs}).logits


def test_chunks_by_hand_equal_the_whole(model):
    columns = model.marker_columns(PROMPT)
    with torch.no_grad():
        first = model(PROMPT[:, :3], marker_columns=columns, use_cache=True, **IDS)
        cache = getattr(first, "cache", None) or first.past_key_values
        name = "cache" if hasattr(first, "cache") else "past_key_values"
        rest = model(PROMPT[:, 3:], marker_columns=columns, chunk_start=3, **{name: cache}, **IDS)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], dim=1), logits(model), atol=1e-5, rtol=0)


def test_a_filled_cache_without_columns_is_refused(tiny_xrec):
    model = tiny_xrec()
    first = model(PROMPT, use_cache=True, **IDS)
    name = "cache" if hasattr(first, "cache") else "past_key_values"
    with pytest.raises(ValueError, match="marker_columns"):
        model(PROMPT[:, :1], **{name: getattr(first, name)}, **IDS)


def test_only_the_adapters_are_trained(tiny_xrec):
    trained = {name.split(".")[0] for name, p in tiny_xrec().named_parameters() if p.requires_grad}
    assert trained == {"user_adapter", "item_adapter"}


def test_markers_are_never_generated_by_default(tiny_xrec):
    model = tiny_xrec()
    with torch.no_grad():
        model.get_output_embeddings().weight[104] = 100 * model.get_output_embeddings().weight[50]
    settings = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(PROMPT), **IDS}
    assert not (model.generate(PROMPT, **settings)[:, 7:] == 104).any()


def test_markers_beyond_the_embedding_table_need_no_row(tiny_xrec):
    model, outside = tiny_xrec(), tiny_xrec(user_token_id=500, item_token_id=501)
    moved = PROMPT.masked_fill(PROMPT == 104, 500).masked_fill(PROMPT == 105, 501)
    torch.testing.assert_close(logits(outside, moved), logits(model))
    settings = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(PROMPT), **IDS}
    assert torch.equal(outside.generate(moved, **settings)[:, 7:], model.generate(PROMPT, **settings)[:, 7:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"input_ids": torch.tensor([[1, 104, 5], [1, 104, 105]])},
            "row 0 of the prompt has 0 item markers, expected 1",
        ),
        ({"input_ids": torch.tensor([[1, 104, 104, 105]] * 2)}, "has 2 user markers, expected 1"),
        ({"user_ids": torch.tensor([0, 5])}, "user_ids range from 0 to 5, and the model stores 5 users"),
        ({"item_ids": torch.tensor([-1, 5])}, "item_ids range from -1 to 5, and the model stores 7 items"),
        ({"user_ids": None}, "either user_ids or user_embeds, found neither"),
        ({"user_embeds": torch.zeros(2, 8)}, "either user_ids or user_embeds, found both"),
        ({"user_ids": None, "user_embeds": torch.zeros(2, 9)}, r"user_embeds is \(2, 9\), expected \(batch, 8\)"),
        ({"user_ids": None, "user_embeds": torch.full((2, 8), float("nan"))}, "user_embeds row 0 has NaN"),
        ({"input_ids": None}, "expected input_ids, found none"),
        ({"user_ids": torch.tensor([1])}, "user_ids has 1 rows and input_ids has 2"),
        ({"item_ids": torch.tensor([1, 2, 3])}, "item_ids has 3 rows and input_ids has 2"),
        ({"user_ids": None, "user_embeds": torch.zeros(3, 8)}, "user_embeds has 3 rows and input_ids has 2"),
        ({"user_ids": torch.zeros(2, 1, dtype=torch.long)}, r"user_ids is torch.int64 \(2, 1\), expected integers"),
        ({"user_ids": torch.tensor([True, False])}, "user_ids is torch.bool"),
        ({"user_ids": [0, 1]}, "user_ids is list, expected integers"),
    ],
)
def test_wrong_input_is_refused_with_what_was_found(tiny_xrec, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_xrec()(**{"input_ids": PROMPT, **IDS, **change})


def test_ids_beyond_the_vocabulary_are_errors_unless_they_are_the_markers(tiny_xrec):
    outside = tiny_xrec(user_token_id=500, item_token_id=501)
    prompt = torch.tensor([[1, 9, 500, 12, 501, 30, 31]] * 2)
    logits(outside, prompt)
    prompt[0, 1] = 200
    with pytest.raises(IndexError):
        logits(outside, prompt)


def test_generation_checks_the_batch_too(tiny_xrec):
    with pytest.raises(ValueError, match="user_ids has 1 rows and input_ids has 2"):
        tiny_xrec().generate(PROMPT, user_ids=torch.tensor([1]), item_ids=torch.tensor([1, 2]), max_new_tokens=2)


def test_guidance_is_refused_by_name(tiny_xrec):
    with pytest.raises(ValueError, match=r"expected no guidance_scale, found 1\.5"):
        tiny_xrec().generate(PROMPT, guidance_scale=1.5, max_new_tokens=2, **IDS)


def test_a_compiled_prompt_without_a_marker_hears_nothing_in_its_place(tiny_xrec):
    model = tiny_xrec()
    prompt = torch.tensor([[1, 9, 8, 12, 105, 30, 31]])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    one = compiled(prompt, user_ids=torch.tensor([0]), item_ids=torch.tensor([2]), use_cache=False).logits
    two = compiled(prompt, user_ids=torch.tensor([4]), item_ids=torch.tensor([2]), use_cache=False).logits
    other = compiled(prompt, user_ids=torch.tensor([4]), item_ids=torch.tensor([3]), use_cache=False).logits
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_an_assistant_stays_the_callers_own(tiny_xrec):
    model, assistant = tiny_xrec(), tiny_xrec().language_model.train().requires_grad_(True)
    one = {name: ids[:1] for name, ids in IDS.items()}
    model.generate(PROMPT[:1], assistant_model=assistant, max_new_tokens=4, **one)
    assert assistant.training
    assert all(parameter.requires_grad for parameter in assistant.parameters())
    assert assistant.generation_config.suppress_tokens is None


def test_what_the_backbone_suppresses_stays_suppressed(tiny_xrec):
    backbone = tiny_xrec().language_model
    backbone.generation_config.suppress_tokens = [7, 8]
    model = XRecForCausalLM.from_backbone(backbone, user_token_id=104, item_token_id=105)
    assert model.generation_config.suppress_tokens == [7, 8, 104, 105]
    assert backbone.generation_config.suppress_tokens == [7, 8]


def test_a_lora_backbone_is_refused_with_the_right_order(tiny_xrec):
    tuned = get_peft_model(tiny_xrec().language_model, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"found a PeftModel; for LoRA, wrap the XRec model itself"):
        XRecForCausalLM.from_backbone(tuned, user_token_id=104, item_token_id=105)
