"""PETER against its mask, its equations written out place by place, and torch's own Transformer layer."""

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from xrec_baselines.peter import Peter, PeterConfig, peter_mask


def may_look(place: int, at: int, user_sees_item: bool) -> bool:
    return at <= place or (user_sees_item and (place, at) == (0, 1))


@pytest.mark.parametrize("user_sees_item", [True, False])
def test_the_mask_place_by_place(user_sees_item):
    mask = peter_mask(7, user_sees_item)
    for place in range(7):
        for at in range(7):
            assert bool(mask[place, at]) != may_look(place, at, user_sees_item), (place, at)


def norm(x, w, name):
    return (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def plain(model, user, item, text):
    """Last hidden states of one pair, place by place and head by head."""
    w, config = model.state_dict(), model.config
    d, heads = config.hidden_size, config.heads
    features = [int(token) for token in w["features"][item]]
    rows = [w["users.weight"][user], w["items.weight"][item]] + [w["words.weight"][token] for token in features + text]
    hidden = []
    for place, row in enumerate(rows):
        position = torch.tensor([
            (math.sin if n % 2 == 0 else math.cos)(place / 10_000 ** (2 * (n // 2) / d)) for n in range(d)
        ])  # fmt: skip
        hidden.append(row * math.sqrt(d) + position)
    padded = {2 + n for n, token in enumerate(features) if token == 0}
    for layer in (f"layers.{n}" for n in range(config.layers)):
        q, k, v = w[f"{layer}.self_attn.in_proj_weight"].split(d)
        bq, bk, bv = w[f"{layer}.self_attn.in_proj_bias"].split(d)
        new = []
        for place, x in enumerate(hidden):
            seen = [at for at in range(len(hidden)) if may_look(place, at, config.peter_mask) and at not in padded]
            heard = []
            for part in torch.arange(d).split(d // heads):
                query = (q @ x + bq)[part]
                scores = torch.stack([query @ (k @ hidden[at] + bk)[part] / math.sqrt(d // heads) for at in seen])
                shares = torch.exp(scores) / torch.exp(scores).sum()
                heard.append(sum(share * (v @ hidden[at] + bv)[part] for share, at in zip(shares, seen, strict=True)))
            out = w[f"{layer}.self_attn.out_proj.weight"] @ torch.cat(heard) + w[f"{layer}.self_attn.out_proj.bias"]
            x = norm(x + out, w, f"{layer}.norm1")
            fed = torch.relu(w[f"{layer}.linear1.weight"] @ x + w[f"{layer}.linear1.bias"])
            x = norm(x + w[f"{layer}.linear2.weight"] @ fed + w[f"{layer}.linear2.bias"], w, f"{layer}.norm2")
            new.append(x)
        hidden = new
    return hidden


@pytest.mark.parametrize("name", ["peter", "peter+"])
@pytest.mark.parametrize("mask", [True, False])
def test_forward_is_the_papers_equations_and_the_loss_their_weighted_sum(make_baseline, batch, name, mask):
    model = make_baseline(name, peter_mask=mask, text_weight=1.2, context_weight=0.6, rating_weight=0.2)
    w, answer = model.state_dict(), model(**batch)
    errors, contexts, losses = [], [], []
    for row in range(3):
        text = [token for token in batch["input_ids"][row].tolist() if token != 0]
        hidden = plain(model, int(batch["user_ids"][row]), int(batch["item_ids"][row]), text)
        words = torch.stack(hidden) @ w["output.weight"].T + w["output.bias"]
        words = words - torch.log(torch.exp(words).sum(dim=-1, keepdim=True))
        inner = 1 / (1 + torch.exp(-(w["rating_layer.weight"] @ hidden[0] + w["rating_layer.bias"])))
        rating = (w["rating_head.weight"] @ inner + w["rating_head.bias"])[0]
        first = 2 + model.config.feature_tokens
        assert torch.allclose(answer.logits[row, : len(text)].log_softmax(-1), words[first:], atol=1e-5)
        assert torch.allclose(answer.rating[row], rating, atol=1e-5)
        losses += [-words[first + place, token] for place, token in enumerate(text[1:])]
        contexts += [-words[1, token] for token in text[1:]]
        if row != 1:
            errors.append((rating - batch["rating"][row]) ** 2)
    expected = 1.2 * sum(losses) / len(losses) + 0.6 * sum(contexts) / len(contexts) + 0.2 * sum(errors) / len(errors)
    assert torch.allclose(answer.loss, expected, rtol=1e-5)


def test_the_rating_hears_the_item_through_the_peter_mask_only(make_baseline, batch):
    for mask, hears in ((True, True), (False, False)):
        model = make_baseline("peter", peter_mask=mask)
        one, two = (model(**(batch | {"item_ids": torch.full((3,), item)})).rating for item in (0, 1))
        assert torch.allclose(one, two, atol=1e-6) != hears


def test_a_layer_is_torchs_own(make_baseline):
    model = make_baseline("peter")
    hidden, mask = torch.randn(2, 5, 8), peter_mask(5, True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3] = True
    ours = model.run_layer(model.layers[0], hidden, hidden, mask, padding)
    assert torch.allclose(ours, model.layers[0](hidden, src_mask=mask, src_key_padding_mask=padding), atol=1e-5)


def test_an_odd_width_is_refused():
    with pytest.raises(StrictDataclassError, match=r"hidden_size=9 is out of range; give an even number that 3 heads share"):
        Peter(PeterConfig(hidden_size=9, heads=3))
