"""PEPLER against the backbone it prompts, and its two stages."""

import copy

import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

from xrec_baselines.pepler import Pepler, PeplerConfig, SequentialTuning


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("regularization", [None, "mf", "mlp"])
def test_forward_is_the_backbone_after_two_vectors(make_baseline, make_backbone, batch, kind, regularization):
    name = "pepler-gpt2" if kind == "gpt2" else "pepler"
    model = make_baseline(name, rating_regularization=regularization, text_weight=1.5, rating_weight=0.4)
    plain, weights, answer = make_backbone(kind).eval(), model.state_dict(), model(**batch)
    losses, errors = [], []
    for row in range(3):
        text = [token for token in batch["input_ids"][row].tolist() if token != 0]
        user, item = (weights[f"{side}s.weight"][batch[f"{side}_ids"][row]] for side in ("user", "item"))
        embedded = torch.cat([torch.stack([user, item]), plain.get_input_embeddings()(torch.tensor(text))])
        expected = plain(inputs_embeds=embedded[None]).logits[0, 2:]
        assert torch.allclose(answer.logits[row, : len(text)], expected, atol=1e-4)
        log_p = expected - torch.log(torch.exp(expected).sum(dim=-1, keepdim=True))
        losses += [-log_p[place, token] for place, token in enumerate(text[1:])]
        if regularization == "mf":
            rating = sum(a * b for a, b in zip(user, item, strict=True))
        elif regularization == "mlp":
            h = torch.cat([user, item])
            for n in range(2):
                h = torch.sigmoid(weights[f"rating_layers.{n}.weight"] @ h + weights[f"rating_layers.{n}.bias"])
            rating = (weights["rating_head.weight"] @ h + weights["rating_head.bias"])[0]
        else:
            assert answer.rating is None
            continue
        assert torch.allclose(answer.rating[row], rating, atol=1e-5)
        if row != 1:
            errors.append((rating - batch["rating"][row]) ** 2)
    expected = 1.5 * sum(losses) / len(losses) + (0.4 * sum(errors) / len(errors) if errors else 0)
    assert torch.allclose(answer.loss, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_backbone_starts_as_it_came(make_backbone, kind):
    language_model = make_backbone(kind)
    before = copy.deepcopy(language_model.state_dict())
    model = Pepler(PeplerConfig(num_users=2, num_items=2), language_model)
    assert all(torch.equal(value, before[key]) for key, value in model.language_model.state_dict().items())
    assert 0.09 < model.users.weight.abs().max() <= 0.1


def test_a_backbone_that_would_see_the_future_is_refused(make_backbone):
    language_model = make_backbone()
    config = PeplerConfig(num_users=2, num_items=2, text_config=language_model.config)  # which clears its attention
    with pytest.raises(ValueError, match="every token would see the next"):
        Pepler(config, language_model)


def test_what_a_backbone_asks_of_chats_does_not_reach_the_text(make_baseline):
    model, rows = make_baseline("pepler"), torch.arange(5)
    plain = model.explain(rows, rows, 8)
    model.language_model.generation_config.repetition_penalty = 50.0
    model.language_model.generation_config.max_length = 3
    assert torch.equal(model.explain(rows, rows, 8), plain)
    assert model.language_model.generation_config.repetition_penalty == 50.0


class Watch(SequentialTuning):
    """Notes, after every step, what has moved since the step before."""

    def __init__(self, prompt_epochs, model):
        super().__init__(prompt_epochs)
        self.before, self.moved, self.memories = copy.deepcopy(model.state_dict()), [], []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        now = model.state_dict()
        changed = {key for key, value in now.items() if not torch.equal(value, self.before[key])}
        self.moved.append((any("language_model" in key for key in changed), "users.weight" in changed))
        self.memories.append(max(int(entry["step"]) for entry in optimizer.state.values()))
        self.before = copy.deepcopy(now)


def _stack(examples):
    return {key: torch.stack([example[key] for example in examples]) for key in examples[0]}


def fit(model, batch, folder, callback, resume=None, **more):
    """Four epochs of two steps."""
    rows = [{key: value[row] for key, value in batch.items()} for row in (0, 1, 2, 1)]
    settings = {
        "per_device_train_batch_size": 2, "num_train_epochs": 4, "learning_rate": 0.01, "lr_scheduler_type": "constant",
        "report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "weight_decay": 0.1,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(folder), **(settings | more))
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=_stack, callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return model.state_dict()


def test_first_the_prompts_learn_then_all_and_the_optimizer_forgets_in_between(make_baseline, batch, tmp_path):
    model = make_baseline("pepler", rating_regularization=None)
    watch = Watch(2, model)
    fit(model, batch, tmp_path, watch)
    assert watch.moved == [(False, True)] * 4 + [(True, True)] * 4
    assert watch.memories == [1, 2, 3, 4, 1, 2, 3, 4]
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("step", [3, 4, 5])
def test_a_run_resumed_in_either_stage_or_between_ends_the_same(make_baseline, batch, tmp_path, step):
    def run(resume=None):
        model = make_baseline("pepler", rating_regularization=None)
        return fit(model, batch, tmp_path, SequentialTuning(2), resume, save_strategy="steps", save_steps=1)

    whole = run()
    again = run(str(tmp_path / f"checkpoint-{step}"))
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


def test_early_stopping_ends_no_run_before_the_second_stage(make_baseline, batch, tmp_path):
    model = make_baseline("pepler", rating_regularization=None)
    rows = [{key: value[row] for key, value in batch.items()} for row in (0, 1, 2, 1)]
    watch = Watch(3, model)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=2, num_train_epochs=6, learning_rate=10.0,
        eval_strategy="epoch", save_strategy="no", metric_for_best_model="loss", greater_is_better=False,
        report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    stopping = EarlyStoppingCallback(1, early_stopping_threshold=1e9)  # nothing is ever better by so much
    Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, data_collator=_stack, callbacks=[stopping, watch]).train()
    assert len(watch.moved) == 2 * 4  # three epochs of the first stage, and one of the second
