import threading

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

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


def test_swapping_the_user_changes_what_follows_the_marker_only(model):
    before = logits(model)
    after = logits(model, user_ids=torch.tensor([1, 3]))
    assert torch.equal(before[0, :2], after[0, :2])
    assert (before[0, 2:] - after[0, 2:]).abs().max() > 1e-3
    assert torch.equal(before[1], after[1])


def test_zero_scale_is_input_only(tiny_xrec):
    for mode in ("qkv", "attention"):
        torch.testing.assert_close(
            logits(tiny_xrec(injection=mode, injection_scale=0.0)), logits(tiny_xrec(injection="input"))
        )
        assert (logits(tiny_xrec(injection=mode)) - logits(tiny_xrec(injection="input"))).abs().max() > 1e-3


def test_none_is_the_plain_backbone(tiny_xrec):
    model = tiny_xrec(injection="none")
    with torch.no_grad():
        assert torch.equal(model(PROMPT).logits, model.language_model(PROMPT).logits)


def test_batched_equals_single(model):
    together = logits(model)
    for row in range(2):
        alone = logits(model, PROMPT[row : row + 1], **{name: ids[row : row + 1] for name, ids in IDS.items()})
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_left_padded_equals_unpadded(model):
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), PROMPT], dim=1)
    mask = (padded != 0).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    padded_logits = logits(model, padded, attention_mask=mask, position_ids=positions)
    torch.testing.assert_close(padded_logits[:, 3:], logits(model), atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", [{"use_cache": False}, {"prefill_chunk_size": 2}, {"cache_implementation": "static"}])
def test_generation_is_the_same_however_the_prompt_is_fed(model, how):
    settings = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(PROMPT), **IDS}
    assert torch.equal(model.generate(PROMPT, **settings), model.generate(PROMPT, **settings, **how))


def test_generation_with_beams_matches_rows_alone(model):
    settings = {"max_new_tokens": 6, "do_sample": False, "num_beams": 3, "num_return_sequences": 2}
    together = model.generate(PROMPT, attention_mask=torch.ones_like(PROMPT), **settings, **IDS)
    row = {name: ids[1:] for name, ids in IDS.items()}
    alone = model.generate(PROMPT[1:], attention_mask=torch.ones_like(PROMPT[1:]), **settings, **row)
    assert torch.equal(together[2:], alone)


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


def test_two_forwards_before_one_backward(model):
    one = model(PROMPT, labels=PROMPT, **IDS).loss
    two = model(PROMPT, labels=PROMPT, user_ids=torch.tensor([1, 1]), item_ids=torch.tensor([0, 1])).loss
    (one + two).backward()
    together = model.user_adapter.expert_weight.grad.clone()
    model.zero_grad()
    model(PROMPT, labels=PROMPT, **IDS).loss.backward()
    model(PROMPT, labels=PROMPT, user_ids=torch.tensor([1, 1]), item_ids=torch.tensor([0, 1])).loss.backward()
    torch.testing.assert_close(together, model.user_adapter.expert_weight.grad)


def test_two_threads_hear_their_own_user(model):
    wanted = {user: logits(model, user_ids=torch.tensor([user, user])) for user in range(4)}
    found = {}
    threads = [
        threading.Thread(target=lambda user=user: found.update({user: logits(model, user_ids=torch.tensor([user, user]))}))
        for user in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[user], wanted[user]) for user in wanted)


def test_compiled_equals_eager(model):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(logits(compiled, use_cache=False), logits(model))


def test_checkpointed_gradients_equal_plain(model):
    model.train()
    model.user_adapter.dropout = model.item_adapter.dropout = 0.0
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(0)
        model(PROMPT, labels=PROMPT, use_cache=False, **IDS).loss.backward()
        gradients.append(model.user_adapter.expert_weight.grad.clone())
    torch.testing.assert_close(*gradients)


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
    ],
)
def test_wrong_input_is_refused_with_what_was_found(tiny_xrec, change, message):
    with pytest.raises(ValueError, match=message):
        tiny_xrec()(**{"input_ids": PROMPT, **IDS, **change})


def test_backbones_that_cannot_take_a_mode_are_refused_by_name():
    grouped = LlamaConfig(vocab_size=110, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                          num_key_value_heads=2)  # fmt: skip
    markers = {"user_token_id": 104, "item_token_id": 105, "collaborative_dim": 8}
    with pytest.raises(ValueError, match=r"LlamaForCausalLM has q, k and v projections of widths \[32, 16, 16\].*attention"):
        XRecForCausalLM.from_backbone(LlamaForCausalLM(grouped), **markers)
    fused = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=110, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                                             num_attention_heads=4))  # fmt: skip
    with pytest.raises(ValueError, match=r"GPTNeoXForCausalLM .*injection='attention'"):
        XRecForCausalLM.from_backbone(fused, **markers)
    model = XRecForCausalLM.from_backbone(fused, injection="attention", **markers)
    embeds = {"user_embeds": torch.randn(2, 8), "item_embeds": torch.randn(2, 8)}
    changed = {**embeds, "user_embeds": torch.randn(2, 8)}
    with torch.no_grad():
        assert (model(PROMPT, **embeds).logits - model(PROMPT, **changed).logits).abs().max() > 1e-3
