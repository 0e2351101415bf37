"""NRT against its equations, written out token by token."""

import torch


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def log_softmax(x):
    return x - torch.log(torch.exp(x).sum())


def plain(model, user, item, text):
    """Rating, log c' and log p of every next token of one pair."""
    w, config = model.state_dict(), model.config

    def linear(name, x):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    pair = torch.cat([w["users.weight"][user], w["items.weight"][item]])
    h = pair
    for n in range(config.rating_layers):
        h = sigmoid(linear(f"rating_layers.{n}", h))
    rating = linear("rating_head", h)[0]
    onehot = torch.zeros(5)
    onehot[min(range(5), key=lambda level: abs(level + 1 - min(max(float(rating), 1), 5)))] = 1
    q = sigmoid(linear("context_layer", pair))
    d = torch.tanh(linear("first_state", torch.cat([pair, onehot, q])))
    answers = []
    for token in text:
        given = w["gru.weight_ih_l0"] @ w["words.weight"][token] + w["gru.bias_ih_l0"]
        kept = w["gru.weight_hh_l0"] @ d + w["gru.bias_hh_l0"]
        (r1, z1, n1), (r2, z2, n2) = given.split(config.hidden_size), kept.split(config.hidden_size)
        z = sigmoid(z1 + z2)
        d = (1 - z) * torch.tanh(n1 + sigmoid(r1 + r2) * n2) + z * d
        answers.append(log_softmax(linear("output", d)))
    return rating, log_softmax(linear("context_head", q)), torch.stack(answers)


def test_forward_is_the_papers_equations_and_the_loss_their_weighted_sum(make_baseline, batch):
    weights = {"rating_weight": 0.3, "context_weight": 0.7, "text_weight": 1.3, "norm_weight": 1e-3}
    model = make_baseline("nrt", **weights)
    with torch.no_grad():  # predictions of several levels
        model.rating_head.weight.mul_(400.0)
        model.rating_head.bias += 3.0 - model(**batch).rating.mean()
    answer, errors, contexts, losses = model(**batch), [], [], []
    levels = set()
    for row in range(3):
        text = [token for token in batch["input_ids"][row].tolist() if token != 0]
        rating, context, words = plain(model, int(batch["user_ids"][row]), int(batch["item_ids"][row]), text)
        assert torch.allclose(answer.rating[row], rating, atol=1e-5)
        assert torch.allclose(answer.logits[row, : len(text)].log_softmax(-1), words, atol=1e-5)
        if row != 1:  # the second has no rating
            errors.append((rating - batch["rating"][row]) ** 2)
        contexts += [-context[token] for token in text[1:]]
        losses += [-words[place, token] for place, token in enumerate(text[1:])]
        levels.add(round(min(max(float(rating), 1), 5)))
    assert len(levels) > 1
    expected = 1.3 * sum(losses) / len(losses) + 0.7 * sum(contexts) / len(contexts) + 0.3 * sum(errors) / len(errors)
    assert torch.allclose(answer.loss, expected, rtol=1e-5)
    norm = sum(float((weight.detach() ** 2).sum()) for weight in model.parameters())
    assert torch.allclose(model.train()(**batch).loss, expected + 1e-3 * norm, rtol=1e-5)


def test_the_true_rating_is_no_input(make_baseline, batch):
    model = make_baseline("nrt")
    one, two = (model(**(batch | {"rating": torch.full((3,), value)})) for value in (1.0, 5.0))
    assert torch.equal(one.logits, two.logits)
    assert not torch.equal(one.loss, two.loss)
