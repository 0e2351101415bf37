"""Att2Seq against its equations, written out token by token."""

import pytest
import torch


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def plain_log_probabilities(model, user, item, level, text):
    """log p of every next token, by the paper's equations with one pair at a time."""
    weights = model.state_dict()
    hidden, layers = model.config.hidden_size, model.config.layers
    rows = [user, item] if level is None else [user, item, level]
    g = [weights[f"attributes.{n}.weight"][row] for n, row in enumerate(rows)]
    a = torch.tanh(weights["encoder.weight"] @ torch.cat(g) + weights["encoder.bias"])
    h, c = [a[n * hidden : (n + 1) * hidden] for n in range(layers)], [torch.zeros(hidden) for _ in range(layers)]
    answers = []
    for token in text:
        x = weights["words.weight"][token]
        for n in range(layers):
            gates = (
                weights[f"lstm.weight_ih_l{n}"] @ x + weights[f"lstm.bias_ih_l{n}"]
                + weights[f"lstm.weight_hh_l{n}"] @ h[n] + weights[f"lstm.bias_hh_l{n}"]
            )  # fmt: skip
            i, f, new, o = gates.split(hidden)
            c[n] = sigmoid(f) * c[n] + sigmoid(i) * torch.tanh(new)
            h[n] = sigmoid(o) * torch.tanh(c[n])
            x = h[n]
        if model.config.attention:
            scores = [torch.exp(torch.tanh(weights["attention.weight"][0] @ torch.cat([x, one]))) for one in g]
            context = sum(s / sum(scores) * one for s, one in zip(scores, g, strict=True))
            x = torch.tanh(weights["from_context.weight"] @ context + weights["from_hidden.weight"] @ x)
        logits = weights["output.weight"] @ x + weights["output.bias"]
        answers.append(logits - torch.log(torch.exp(logits).sum()))
    return torch.stack(answers)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("rated", [True, False])
def test_forward_is_the_papers_equations(make_baseline, batch, attention, rated):
    limits = {} if rated else {"min_rating": None, "max_rating": None}
    model = make_baseline("att2seq", attention=attention, **limits)
    answer = model(**batch)
    levels = [4, 3, 1] if rated else [None] * 3  # 5 stars, user 3's usual one for lack of a rating, 2 stars
    losses = []
    for row, level in enumerate(levels):
        text = [token for token in batch["input_ids"][row].tolist() if token != 0]
        expected = plain_log_probabilities(model, int(batch["user_ids"][row]), int(batch["item_ids"][row]), level, text)
        assert torch.allclose(answer.logits[row, : len(text)].log_softmax(-1), expected, atol=1e-5)
        losses += [-expected[place, token] for place, token in enumerate(text[1:])]
    assert torch.allclose(answer.loss, sum(losses) / len(losses), rtol=1e-5)


def test_the_usual_level_stands_for_a_rating_that_is_not_given(make_baseline, batch):
    model = make_baseline("att2seq")
    given = {key: batch[key] for key in ("user_ids", "item_ids", "input_ids")}
    usual = model.usual_level[given["user_ids"]] + 1.0
    assert torch.equal(model(**given).logits, model(**given, rating=usual).logits)
    assert not torch.allclose(model(**given).logits, model(**given, rating=6 - usual).logits, atol=1e-3)
