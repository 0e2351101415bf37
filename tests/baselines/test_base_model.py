"""What all baselines promise, whatever their equations."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import Trainer, TrainingArguments

from xrec_baselines.base_model import rating_level, rating_loss
from xrec_baselines.explainer import MODELS

NAMES = ["att2seq", "nrt", "peter", "peter+", "pepler", "pepler-gpt2"]
EVERYBODY = torch.tensor([[user, item] for user in range(6) for item in range(5)])


def cut(ids: torch.Tensor, eos: int = 2) -> list[list[int]]:
    """Texts up to their ends."""
    return [row[: row.index(eos) + 1] if eos in row else row for row in ids.tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_writes_what_each_pair_gets_alone_and_pairs_differ(make_baseline, name):
    model = make_baseline(name)
    together = cut(model.explain(*EVERYBODY.T, max_new_tokens=9))
    alone = [cut(model.explain(*pair[:, None], max_new_tokens=9))[0] for pair in EVERYBODY]
    assert together == alone
    assert len(set(map(tuple, together))) > 5
    assert len({len(text) for text in together}) > 1  # some end early, so padding took part


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_writing_with_a_cache_is_writing_without(make_baseline, name, beams):
    model = make_baseline(name)
    cached, plain = (model.explain(*EVERYBODY.T, 7, beams, use_cache=use) for use in (True, False))
    assert cut(cached) == cut(plain)


@pytest.mark.parametrize("name", NAMES)
def test_greedy_texts_take_the_likeliest_token_each_time(make_baseline, name):
    model, pair = make_baseline(name), {"user_ids": torch.tensor([2]), "item_ids": torch.tensor([3])}
    text = [1]
    for _ in range(6):
        logits = model(**pair, input_ids=torch.tensor([text])).logits[0, -1].clone()
        if not name.startswith("pepler"):  # the backbone's own generate forbids nothing
            logits[[0, 1]] = -torch.inf
        text.append(int(logits.argmax()))
        if text[-1] == 2:
            break
    assert cut(model.explain(**pair, max_new_tokens=6)) == [text[1:]]


@pytest.mark.parametrize("name", NAMES)
def test_a_token_knows_nothing_of_what_comes_after_it(make_baseline, name, batch):
    model = make_baseline(name)
    given = {key: batch[key] for key in ("user_ids", "item_ids", "input_ids", "attention_mask")}
    before = model(**given).logits
    given["input_ids"] = given["input_ids"].clone()
    given["input_ids"][:, 3:] = 20
    after = model(**given).logits
    assert torch.allclose(before[:, :3], after[:, :3], atol=1e-6)
    assert (before[:, 3:] - after[:, 3:]).abs().amax() > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_no_loss(make_baseline, name, batch):
    model = make_baseline(name)
    wider = dict(batch)
    for key, fill in (("input_ids", 17), ("attention_mask", 0), ("labels", -100)):  # a fill that would be felt
        wider[key] = torch.nn.functional.pad(batch[key], (0, 4), value=fill)
    assert torch.allclose(model(**wider).loss, model(**batch).loss, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_step_in_parts_is_that_of_the_whole(make_baseline, name, batch):
    model = make_baseline(name, rating_weight=0.0) if name != "att2seq" else make_baseline(name)
    whole = model(**batch).loss
    items = batch["labels"].ne(-100).sum()
    parts = [model(**{key: value[rows] for key, value in batch.items()}, num_items_in_batch=items).loss
             for rows in (slice(0, 1), slice(1, 3))]  # fmt: skip
    assert torch.allclose(sum(parts), whole, rtol=1e-6)
    assert model.accepts_loss_kwargs


@pytest.mark.parametrize("name", ["nrt", "peter", "pepler"])
def test_ratings_that_are_missing_teach_nothing(make_baseline, name, batch):
    model = make_baseline(name)
    predicted = model(**batch).rating
    without = model(**(batch | {"rating": torch.full((3,), torch.nan)})).loss
    known = batch["rating"].isfinite()
    error = sum((predicted[row] - batch["rating"][row]) ** 2 for row in range(3) if known[row]) / known.sum()
    assert torch.allclose(model(**batch).loss, without + model.config.rating_weight * error, rtol=1e-5)
    assert torch.equal(model(**(batch | {"rating": None})).loss, without)
    model(**batch).loss.backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_without_any_known_rating_there_is_no_rating_task(make_baseline, name, batch):
    model = make_baseline(name, min_rating=None, max_rating=None)
    answer = model(**(batch | {"rating": torch.full((3,), torch.nan)}))
    assert answer.rating is None
    assert not [weight for weight, _ in model.named_parameters() if "rating" in weight]
    answer.loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())  # nothing idles, as several processes need it


@pytest.mark.parametrize("name", NAMES)
def test_saved_is_loaded(make_baseline, name, batch, tmp_path):
    model = make_baseline(name)
    model.save_pretrained(tmp_path)
    again = MODELS[model.config.model_type].from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    assert torch.equal(model(**batch).loss, again(**batch).loss)
    assert torch.equal(model.explain(*EVERYBODY.T, 5), again.explain(*EVERYBODY.T, 5))


@pytest.mark.parametrize("name", NAMES)
def test_settings_out_of_range_are_refused(make_baseline, name):
    with pytest.raises(StrictDataclassError, match=r"max_text_tokens=0 is out of range"):
        make_baseline(name, max_text_tokens=0)


def test_explaining_leaves_a_training_model_in_training_and_drops_nothing_out(make_baseline):
    model = make_baseline("att2seq", dropout=0.9).train()
    texts = {str(cut(model.explain(*EVERYBODY.T, 6))) for _ in range(3)}
    assert model.training
    assert len(texts) == 1


def test_trainer_with_accumulation_takes_the_same_step_as_with_one_batch(make_baseline, batch, tmp_path):
    rows = [{key: value[row] for key, value in batch.items()} for row in (0, 1, 2, 0)]

    def collate(examples):
        return {key: torch.stack([example[key] for example in examples]) for key in examples[0]}

    def weights(size, steps):
        model = make_baseline("nrt", rating_weight=0.0, norm_weight=1e-3)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), per_device_train_batch_size=size, gradient_accumulation_steps=steps, max_steps=1,
            optim="sgd", learning_rate=1.0, max_grad_norm=0.0, report_to="none", use_cpu=True, disable_tqdm=True,
            save_strategy="no", seed=3,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=rows, data_collator=collate).train()
        return model.state_dict()

    one, two = weights(4, 1), weights(2, 2)
    start = make_baseline("nrt").state_dict()
    assert max((one[key] - start[key]).abs().max() for key in one) > 1e-2
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)


def test_levels_are_the_nearest_ones(make_baseline):
    config = make_baseline("nrt").config
    given = [-3.0, 1.0, 1.4, 1.6, 2.9, 4.4, 4.6, 5.0, 9.0]
    expected = [min(range(5), key=lambda level: abs(level + 1 - min(max(value, 1), 5))) for value in given]
    assert rating_level(torch.tensor(given), config).tolist() == expected
    config.min_rating = config.max_rating = 4.0
    assert rating_level(torch.tensor([4.0, 1.0]), config).tolist() == [0, 0]


def test_the_rating_loss_of_no_rating_is_zero_and_has_a_gradient_of_zero():
    predicted = torch.tensor([1.0, 2.0], requires_grad=True)
    rating_loss(predicted, torch.tensor([torch.nan, torch.nan])).backward()
    assert predicted.grad.tolist() == [0.0, 0.0]
