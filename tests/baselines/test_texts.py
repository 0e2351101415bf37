"""Examples, ratings and what must not be read."""

import shutil

import numpy as np
import polars as pl
import pytest
import torch

from xrec_baselines.texts import BaselineCollator, BaselineTexts, Ratings
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import INTERACTIONS, DatasetFolder, read_table, write_table
from xrec_training.model_table import MODELS, find
from xrec_training.prepared import Inputs
from xrec_training.recipe import read_recipe
from xrec_training.tables import Catalogue, read_explanations

SMALL = {
    "att2seq": {"attribute_size": 4, "hidden_size": 8},
    "nrt": {"latent_size": 6, "hidden_size": 8},
    "peter": {"hidden_size": 8, "intermediate_size": 8, "feature_tokens": 3},
    "pepler": {"scratch.epochs": 0.05, "scratch.hidden_size": 16, "scratch.layers": 1, "scratch.vocab_size": 400},
}


def prepared(name, data, tmp_path, **overrides):
    recipe = read_recipe(None, {"model": name} | SMALL[name] | overrides)
    explanations = {split: read_explanations(data, split) for split in ("train", "validation")}
    torch.manual_seed(0)
    inputs = Inputs(data, Catalogue.read(data), explanations, None, recipe, tmp_path / "backbone")
    return find(MODELS[name].prepare)(inputs)


def copied(data, place, change):
    """A dataset whose interactions `change` has changed, split by split."""
    shutil.copytree(data, place)
    for split in ("train", "validation", "test"):
        path = DatasetFolder(place).interactions(split)
        write_table(change(split, read_table(path, INTERACTIONS)), path, INTERACTIONS)
    return place


@pytest.mark.parametrize("name", SMALL)
def test_an_example_is_the_explanation_and_its_end_with_the_pairs_rating(name, tiny_data, tmp_path):
    model = prepared(name, tiny_data, tmp_path)
    rows, catalogue = read_explanations(tiny_data, "train"), Catalogue.read(tiny_data)
    ratings = {
        (user, item): rating
        for user, item, rating in read_table(DatasetFolder(tiny_data).interactions("train"), INTERACTIONS)
        .select("user_id", "item_id", "rating")
        .iter_rows()
    }
    model.save(model.model, tmp_path, None)
    from transformers import AutoTokenizer

    tokenizer, dataset = AutoTokenizer.from_pretrained(tmp_path), model.datasets["train"]
    assert len(dataset) == rows.height
    for number in (0, 7, rows.height - 1):
        row, example = rows.row(number, named=True), dataset[number]
        assert tokenizer.decode(example["input_ids"][1:-1]) == " " + row["explanation"]
        assert example["input_ids"][-1] == tokenizer.eos_token_id
        assert example["labels"] == [-100, *example["input_ids"][1:]]
        assert catalogue.users["user_id"][example["user_ids"]] == row["user_id"]
        assert catalogue.items["item_id"][example["item_ids"]] == row["item_id"]
        assert example["rating"] == ratings[row["user_id"], row["item_id"]]


@pytest.mark.parametrize("name", SMALL)
def test_a_prepared_model_does_not_see_the_token_it_is_to_write(name, tiny_data, tmp_path):
    one = prepared(name, tiny_data, tmp_path)
    batch = one.collator([one.datasets["train"][number] for number in range(4)])
    model = one.model.eval()
    before = model(**batch).logits
    batch["input_ids"][:, 4:] = 300
    after = model(**batch).logits
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-5)
    assert (before[:, 4:] - after[:, 4:]).abs().max() > 1e-5


def test_padding_has_no_label_and_no_attention(tiny_data, tmp_path):
    model = prepared("nrt", tiny_data, tmp_path)
    examples = [model.datasets["train"][number] for number in range(5)]
    batch = model.collator(examples)
    for row, example in enumerate(examples):
        length = len(example["input_ids"])
        assert batch["input_ids"][row].tolist() == example["input_ids"] + [0] * (batch["input_ids"].shape[1] - length)
        assert batch["attention_mask"][row].sum() == length
        assert (batch["labels"][row, length:] == -100).all()
    assert batch["rating"].dtype == torch.float32


def test_a_text_that_is_cut_has_no_end_to_learn(make_baseline, tiny_data, tmp_path):
    model = prepared("nrt", tiny_data, tmp_path, max_text_tokens=4)
    ends = model.model.config.eos_token_id
    assert all(len(example["labels"]) == 5 and ends not in example["labels"] for example in model.datasets["train"].examples)


@pytest.mark.parametrize("name", SMALL)
def test_ratings_of_test_pairs_are_never_read(name, tiny_data, tmp_path):
    changed = copied(tiny_data, tmp_path / "data", lambda split, table: table.clear() if split == "test" else table)
    DatasetFolder(changed).interactions("test").unlink()
    one, two = (prepared(name, data, tmp_path / "x") for data in (tiny_data, changed))
    assert one.model.config.to_dict() == two.model.config.to_dict()
    assert all(torch.equal(value, two.model.state_dict()[key]) for key, value in one.model.state_dict().items())
    for split, dataset in one.datasets.items():  # as text, in which a rating that is not there equals another
        assert str(dataset.examples) == str(two.datasets[split].examples)


def test_att2seq_is_validated_as_it_writes_without_the_pairs_rating(tiny_data, tmp_path):
    model = prepared("att2seq", tiny_data, tmp_path)
    assert all(np.isnan(example["rating"]) for example in model.datasets["validation"].examples)
    assert all(np.isfinite(example["rating"]) for example in model.datasets["train"].examples)


def test_att2seq_writes_by_levels_that_it_has_learned(tiny_data, tmp_path):
    model = prepared("att2seq", tiny_data, tmp_path)
    trained = {example["rating"] for example in model.datasets["train"].examples}
    assert trained == {4.0, 5.0}  # of five levels between these, the first and the last
    table = read_table(DatasetFolder(tiny_data).interactions("train"), INTERACTIONS)
    for row, user in enumerate(Catalogue.read(tiny_data).users["user_id"]):
        of_user = table.filter(pl.col("user_id") == user)["rating"]
        mean = of_user.mean() if len(of_user) else table["rating"].mean()
        assert model.model.usual_level[row] == (4 if mean > 4.5 else 0) or mean == 4.5
    assert len(model.model.usual_level.unique()) == 2


def test_the_usual_rating_is_the_users_mean_of_training(tiny_data, tmp_path):
    first = Catalogue.read(tiny_data).users["user_id"][0]
    data = copied(
        tiny_data,
        tmp_path / "data",
        lambda split, table: table.filter(pl.col("user_id") != first) if split == "train" else table,
    )
    table = read_table(DatasetFolder(data).interactions("train"), INTERACTIONS)
    usual = Ratings.read(data).usual(Catalogue.read(data))
    means: dict = {}
    for user, rating in table.select("user_id", "rating").iter_rows():
        means.setdefault(user, []).append(rating)
    overall = sum(table["rating"]) / table.height
    for user, found in zip(Catalogue.read(data).users["user_id"], usual, strict=True):
        expected = sum(means[user]) / len(means[user]) if user in means else overall
        assert found == pytest.approx(expected, rel=1e-6)
    assert first not in means


@pytest.mark.parametrize("name", SMALL)
def test_data_without_ratings_make_a_model_without_that_task(name, tiny_data, tmp_path):
    none = pl.lit(None, dtype=pl.Float64).alias("rating")
    data = copied(tiny_data, tmp_path / "data", lambda split, table: table.with_columns(none))
    more = {"rating_regularization": "mf"} if name == "pepler" else {}
    model = prepared(name, data, tmp_path, **more)
    batch = model.collator([model.datasets["train"][number] for number in range(3)])
    assert model.model.config.min_rating is None
    assert model.model(**batch).loss.isfinite()


def test_some_ratings_missing_are_missing_in_their_rows_only(tiny_data, tmp_path):
    every_third = pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.col("rating")).alias("rating")
    data = copied(tiny_data, tmp_path / "data", lambda split, table: table.with_columns(every_third))
    pairs = read_explanations(data, "train")
    table = read_table(DatasetFolder(data).interactions("train"), INTERACTIONS)
    known = {(user, item): rating for user, item, rating in table.select("user_id", "item_id", "rating").iter_rows()}
    found = Ratings.read(data).of("train", pairs)
    for (user, item), rating in zip(pairs.select("user_id", "item_id").iter_rows(), found, strict=True):
        expected = known[user, item]
        assert np.isnan(rating) if expected is None else rating == expected
    assert 0 < np.isnan(found).sum() < len(found)


def test_peter_plus_reads_the_first_tokens_of_each_title(tiny_data, tmp_path):
    model = prepared("peter", tiny_data, tmp_path)
    model.save(model.model, tmp_path, None)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for title, features in zip(Catalogue.read(tiny_data).items["title"], model.model.features, strict=True):
        ids = tokenizer(f" {title}", add_special_tokens=False)["input_ids"][:3]
        assert features.tolist() == ids + [0] * (3 - len(ids))


def test_pepler_has_two_stages_unless_ratings_regularise(tiny_data, tmp_path):
    plain, regular, short = (
        prepared("pepler", tiny_data, tmp_path, **more)
        for more in ({}, {"rating_regularization": "mlp"}, {"prompt_epochs": 0})
    )
    assert [len(one.callbacks) for one in (plain, regular, short)] == [1, 0, 0]
    assert plain.callbacks[0].prompt_epochs == plain.model.config.prompt_epochs > 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nrt", {"rating_layers": "four"}, r"settings that NrtConfig takes, found: .*rating_layers"),
        ("peter", {"dropout": 1.5}, r"found: ValueError: PeterConfig.dropout=1.5 is out of range"),
        ("pepler", {"backbone": "tests"}, r"found 'tests', which does not load"),
        ("peter", {"signal": "zero"}, r"expected no signal for a model that hears no graph, found 'zero'"),
        ("pepler", {"quantization": "4bit"}, r"PEPLER trains the whole backbone"),
        ("att2seq", {"hiden_size": 3}, r"did you mean 'hidden_size'"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(name, settings, message, tiny_data, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        prepared(name, tiny_data, tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_no_explanations_are_no_examples(make_baseline):
    config = make_baseline("nrt").config
    empty = pl.DataFrame({"explanation": []}, schema={"explanation": pl.String})
    assert len(BaselineTexts(None, config, empty, np.empty((2, 0), dtype=np.int64), np.empty(0))) == 0
    assert BaselineCollator(0).pad_token_id == 0
