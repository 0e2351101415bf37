import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from modeling_xrec import XRecForCausalLM
from modeling_xrec.layer_injection import HeadLayout, install_injection, join_interleaved, join_stacked

PROMPT = torch.tensor([[1, 9, 104, 12, 105, 30, 31]])
IDS = {"user_ids": torch.tensor([3]), "item_ids": torch.tensor([2])}
MARKERS = {"user_token_id": 104, "item_token_id": 105, "collaborative_dim": 8}
SIZES = {"vocab_size": 110, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}


def test_equal_widths_are_the_papers_case():
    vectors = torch.randn(2, 2, 32)
    assert all(part is vectors for part in HeadLayout(4, 4, 8).fit(vectors))


def test_grouped_heads_take_the_mean_of_the_heads_that_share_them():
    vectors = torch.randn(2, 2, 32)
    query, keys = HeadLayout(4, 2, 8).fit(vectors)
    assert query is vectors
    torch.testing.assert_close(keys[..., :8], (vectors[..., :8] + vectors[..., 8:16]) / 2)
    torch.testing.assert_close(keys[..., 8:], (vectors[..., 16:24] + vectors[..., 24:]) / 2)


def test_mean_pooled_heads_of_a_multi_head_model_hear_the_same_injection():
    """The formula's reason: pooling the key and value heads of a model under injection is injecting the pooled vector."""
    torch.manual_seed(0)
    weight, states, vector = torch.randn(32, 32), torch.randn(5, 32), torch.randn(1, 1, 32)
    pooled = (states @ weight.T + vector[0]).unflatten(-1, (2, 2, 8)).mean(-2).flatten(-2)
    converted = states @ weight.unflatten(0, (2, 2, 8)).mean(1).flatten(0, 1).T
    torch.testing.assert_close(converted + HeadLayout(4, 2, 8).fit(vector)[1][0], pooled)


def test_fused_layouts():
    q, k, v = torch.arange(4.0), torch.arange(10.0, 14), torch.arange(20.0, 24)
    layout = HeadLayout(2, 2, 2)
    assert join_stacked([q, k, v], layout).tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert join_interleaved([q, k, v], layout).tolist() == [0, 1, 10, 11, 20, 21, 2, 3, 12, 13, 22, 23]


def test_a_backbone_serves_several_models_at_once(xrec_over):
    deep = xrec_over("llama")
    backbone = deep.language_model
    with torch.no_grad():
        alone = deep(PROMPT, **IDS).logits
        others = [XRecForCausalLM.from_backbone(backbone, injection=mode, **MARKERS) for mode in ("qkv", "attention", "input")]
        again = deep(PROMPT, **IDS).logits
        for other in others:
            for name in ("user_adapter", "item_adapter", "lightgcn"):
                setattr(other, name, getattr(deep, name))
        outputs = [other(PROMPT, **IDS).logits for other in others]
    assert torch.equal(again, alone)
    assert torch.equal(outputs[0], alone)
    assert all((outputs[a] - outputs[b]).abs().max() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_hooks_are_not_doubled(xrec_over):
    model = xrec_over("qwen3")
    attention = model.get_decoder().layers[0].self_attn
    install_injection(model.language_model, "qkv")
    assert [len(m._forward_hooks) for m in (attention, attention.q_proj, attention.k_proj, attention.v_proj)] == [1] * 4
    assert len(attention._forward_pre_hooks) == 1


class Scaled(torch.nn.Module):
    """An attention that does not hand its own input to its projections."""

    def __init__(self, attention):
        super().__init__()
        self.inner, self.head_dim = attention, attention.head_dim
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj

    def forward(self, hidden_states, **kwargs):
        return self.inner(hidden_states=hidden_states * 1.0, **kwargs)


def test_an_injection_that_the_projections_do_not_get_is_an_error():
    backbone = LlamaForCausalLM(LlamaConfig(**SIZES))
    backbone.model.layers[0].self_attn = Scaled(backbone.model.layers[0].self_attn)
    model = XRecForCausalLM.from_backbone(backbone, **MARKERS)
    embeds = {"user_embeds": torch.randn(1, 8), "item_embeds": torch.randn(1, 8)}
    with pytest.raises(RuntimeError, match=r"Scaled gave its input to none of its projections q_proj.*injection='attention'"):
        model(PROMPT, **embeds)


def test_no_attention_function_sees_the_argument(xrec_over):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    seen = []

    def spy(module, query, key, value, mask, **kwargs):
        seen.append(set(kwargs))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, mask, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    for mode in ("qkv", "attention"):
        model = xrec_over("llama", injection=mode)
        model.set_attn_implementation("spy")
        model(PROMPT, **IDS)
    assert seen
    assert not any("xrec_injection" in names for names in seen)


def refused(backbone, **config):
    with pytest.raises(ValueError, match=type(backbone).__name__) as error:
        XRecForCausalLM.from_backbone(backbone, **MARKERS, **config)
    return str(error.value)


def test_backbones_that_cannot_take_a_mode_are_refused_by_name():
    falcon = FalconForCausalLM(FalconConfig(**SIZES))
    assert "does not pass keyword arguments" in refused(falcon)
    assert "injection='input'" in refused(falcon, injection="attention")
    XRecForCausalLM.from_backbone(falcon, injection="input", **MARKERS)

    latent = AutoConfig.for_model("deepseek_v3", **SIZES, kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=4,
                                  qk_nope_head_dim=4, v_head_dim=8, n_routed_experts=2, num_experts_per_tok=1, n_group=1,
                                  topk_group=1, first_k_dense_replace=1)  # fmt: skip
    latent = AutoModelForCausalLM.from_config(latent)
    message = refused(latent)
    assert "q_proj, k_proj, v_proj of widths [None, None, None] in DeepseekV3Attention" in message
    assert "use injection='attention'" in message
    XRecForCausalLM.from_backbone(latent, injection="attention", **MARKERS)

    hybrid = AutoConfig.for_model("granitemoehybrid", **SIZES, layer_types=["mamba"], mamba_n_heads=4, mamba_d_head=16,
                                  num_local_experts=2, num_experts_per_tok=1, shared_intermediate_size=32)  # fmt: skip
    message = refused(AutoModelForCausalLM.from_config(hybrid))
    assert "layer 0 of GraniteMoeHybridForCausalLM (GraniteMoeHybridDecoderLayer) has no attention" in message


def test_families_without_a_line_in_the_table_work_as_they_are():
    phi = PhiForCausalLM(PhiConfig(**SIZES, initializer_range=0.2))
    model = XRecForCausalLM.from_backbone(phi, **MARKERS)
    embeds = torch.randn(2, 8), torch.randn(2, 8)
    prompts = PROMPT.expand(2, -1)
    with torch.no_grad():
        out = model(prompts, user_embeds=embeds[0], item_embeds=embeds[1][:1].expand(2, -1)).logits
    assert (out[0] - out[1]).abs().max() > 1e-3
