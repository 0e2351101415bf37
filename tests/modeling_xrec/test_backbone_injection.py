"""What is injected where, over every backbone family: the paper's formula, trained scales and maps, and norms."""

import math

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .over_backbones import CLOSE, DEEP, HEARD, IDS, PROMPT, apart, logits


@pytest.fixture(params=DEEP, ids="-".join)
def deep_case(request):
    """Family and injection into the layers."""
    return request.param


def test_zero_scale_is_input_injection(deep_case, xrec_over):
    family, mode = deep_case
    silent = xrec_over(family, injection=mode, injection_scale=0.0)
    learned = xrec_over(family, injection=mode, injection_scale="learned")
    wanted = logits(xrec_over(family, injection="input"))
    torch.testing.assert_close(logits(silent), wanted, **CLOSE)
    torch.testing.assert_close(logits(learned), wanted, **CLOSE)
    assert apart(logits(xrec_over(family, injection=mode)), wanted) > HEARD


def test_a_learned_scale_of_one_is_the_papers(deep_case, xrec_over):
    family, mode = deep_case
    model = xrec_over(family, injection=mode)
    learned = xrec_over(family, injection=mode, injection_scale="learned")
    with torch.no_grad():
        learned.injection_scale.fill_(1.0)
    torch.testing.assert_close(logits(learned), logits(model), **CLOSE)
    for layer, part in ((0, 0), (1, learned.injection_scale.shape[1] - 1)):
        with torch.no_grad():
            learned.injection_scale.fill_(1.0)[layer, part] = 0.0
        assert apart(logits(learned), logits(model)) > 1e-4


def test_every_learned_scale_gets_a_gradient(family, xrec_over):
    for mode, parts in (("qkv", 3), ("attention", 1)):
        model = xrec_over(family, injection=mode, injection_scale="learned")
        model(PROMPT, labels=PROMPT, **IDS).loss.backward()
        assert model.injection_scale.grad.shape == (2, parts)
        assert (model.injection_scale.grad != 0).all()


def test_trained_norms_are_every_norm_and_move_nothing_else(family, xrec_over):
    model = xrec_over(family, trained_norms=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(PROMPT, labels=PROMPT, **IDS).loss.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0).step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    named = {name for name in before if "norm" in name or ".ln_" in name}
    assert len(named) >= 2 * 2 + 1
    assert {name for name in moved if name.startswith("language_model.")} == named


def test_layer_maps_start_as_the_papers_model_and_reach_every_layer(deep_case, xrec_over):
    family, mode = deep_case
    model, mapped = xrec_over(family, injection=mode), xrec_over(family, injection=mode, layer_maps=True)
    torch.testing.assert_close(logits(mapped), logits(model), **CLOSE)
    mapped(PROMPT, labels=PROMPT, **IDS).loss.backward()
    parts = 3 if mode == "qkv" else 1
    for side in ("user", "item"):
        gradient = getattr(mapped, f"{side}_adapter").place_weight.grad
        assert (gradient.unflatten(1, (2, parts, -1)).abs().amax(dim=(0, 3)) > 0).all()


def test_equal_layer_maps_are_a_shared_vector_of_their_own(deep_case, xrec_over):
    family, mode = deep_case
    mapped = xrec_over(family, injection=mode, layer_maps=True)
    alike = xrec_over(family, injection=mode)
    for side in ("user", "item"):
        one, other = getattr(mapped, f"{side}_adapter"), getattr(alike, f"{side}_adapter")
        width = one.hidden_size
        with torch.no_grad():
            shared = torch.randn(one.place_weight.shape[0], width) * 0.3
            one.place_weight.copy_(shared.repeat(1, one.place_weight.shape[1] // width))
            one.expert_weight.zero_()  # so that the token embeddings are zero in both
            other.expert_weight.copy_(shared.expand_as(other.expert_weight))
    # The one hears the shared vector in its layers alone, the other at its token embedding, too.
    heard = logits(mapped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeling_xrec.base_xrec.replace_at", lambda embeds, columns, vectors, here: _zero_at(embeds, columns))
        torch.testing.assert_close(logits(alike), heard, **CLOSE)
    assert apart(logits(alike), heard) > HEARD


def _zero_at(embeds, columns):
    embeds = embeds.clone()
    embeds[torch.arange(len(embeds)).unsqueeze(1), columns] = 0
    return embeds


def test_none_is_the_plain_backbone(family, xrec_over, backbone_of):
    model = xrec_over(family, injection="none")
    with torch.no_grad():
        assert torch.equal(model(PROMPT).logits, backbone_of(family)(PROMPT).logits)


def plain_fit(vector, layout):
    """P(a) and G(P(a)) as the module's docstring defines them, number by number."""
    heads, kv_heads, width = layout
    hidden, total = len(vector), heads * width
    query = [vector[i * hidden // total : math.ceil((i + 1) * hidden / total)].mean() for i in range(total)]
    shared = heads // kv_heads
    keys = [
        sum(query[(group * shared + head) * width + channel] for head in range(shared)) / shared
        for group in range(kv_heads)
        for channel in range(width)
    ]
    return torch.stack(query), torch.stack(keys)


def first_layer_heads(model, prompt):
    """q, k and v of the first layer, flat, at the first column, where RoPE is the identity; before any q/k norms."""
    decoder, length = model.get_decoder(), prompt.shape[1]
    layer = (getattr(decoder, "layers", None) or decoder.h)[0]
    attention = next(m for name in ("self_attn", "attention", "attn") if (m := getattr(layer, name, None)) is not None)
    seen = {}

    def capture(module, query, key, value, mask, **kwargs):
        if module is attention:
            seen.update(query=query[:, :, 0].flatten(1), key=key[:, :, 0].flatten(1), value=value[:, :, 0].flatten(1))
        return torch.zeros_like(query).transpose(1, 2), None

    def capture_norm(name, states):
        if states.dim() == 4 and states.shape[2] == length:  # heads before positions
            states = states.transpose(1, 2)
        seen[name] = states[:, 0].flatten(1)

    ALL_ATTENTION_FUNCTIONS.register("capture", capture)
    handles = [
        norm.register_forward_pre_hook(lambda _, args, name=name: capture_norm(name, args[0]))
        for name in ("q_norm", "k_norm")
        if (norm := getattr(attention, name, None)) is not None
    ]
    model.set_attn_implementation("capture")
    with torch.no_grad():
        model(prompt, user_ids=torch.tensor([0]), item_ids=torch.tensor([2]))
    for handle in handles:
        handle.remove()
    return seen.get("q_norm", seen["query"]), seen.get("k_norm", seen["key"]), seen["value"]


def test_qkv_adds_what_the_formula_says(family, xrec_over):
    prompt = torch.tensor([[104, 9, 12, 105, 30]])
    deep, shallow = xrec_over(family, injection="qkv"), xrec_over(family, injection="input")
    vector = deep.collaborative_vectors(user_ids=torch.tensor([0]), item_ids=torch.tensor([2]))[0, 0].detach()
    query, keys = plain_fit(vector, deep.injection_plan.layouts[0])
    found = [
        (with_it - without)[0]
        for with_it, without in zip(first_layer_heads(deep, prompt), first_layer_heads(shallow, prompt), strict=True)
    ]
    for got, wanted in zip(found, (query, keys, keys), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)
    if family == "llama":
        torch.testing.assert_close(query, vector)
        torch.testing.assert_close(keys, vector)
