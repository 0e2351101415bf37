import numpy as np
import polars as pl
import pytest
import torch

from modeling_xrec.signals import derangement
from xrec_dataset_builder.errors import DataError
from xrec_evaluation import counterfactuals
from xrec_evaluation.ablations import parts_of, silenced
from xrec_evaluation.explain import Explainer
from xrec_evaluation.likelihood import ReferenceLikelihood, Signal, nats_per_token, perplexity


@pytest.fixture(scope="module")
def rows(tiny_data):
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet")
    return table.select("user_id", "item_id", reference="explanation").head(7)


@pytest.fixture
def scorer(tiny_run, rows):
    return ReferenceLikelihood(Explainer(tiny_run), rows, batch_size=3)


def test_it_is_the_models_own_loss_row_by_row(tiny_run, rows, scorer):
    """Each row alone, by the loss that training takes: mean nats over the answer's tokens."""
    explainer = Explainer(tiny_run)
    found = scorer.tokens(scorer.signal())
    for (user, item, reference), values in zip(rows.iter_rows(), found, strict=True):
        processor = explainer.processor
        about = processor.items[processor.item_index(item)]
        profile = processor.users[processor.user_index(user)]["user_profile"]
        example = processor.example(about["title"], profile, about["item_profile"], reference)
        batch = {name: torch.tensor([value]) for name, value in example.items()}
        ids = {"user_ids": processor.user_index(user), "item_ids": processor.item_index(item)}
        with torch.no_grad():
            loss = explainer.model(**batch, **{name: torch.tensor([row]) for name, row in ids.items()}).loss
        assert len(values) == sum(label != -100 for label in example["labels"])
        assert -values.mean() == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(nats_per_token(found), [-values.mean() for values in found])
    assert perplexity(found) == pytest.approx(np.exp(-sum(v.sum() for v in found) / sum(map(len, found))))


def test_other_embeddings_change_what_depends_on_them_only(tiny_run, scorer):
    own = scorer.signal()
    tables = Explainer(tiny_run).model.lightgcn
    other = counterfactuals.permuted(scorer, 3)
    order = derangement(len(tables.user_embeddings), 3)
    assert torch.equal(other.user, tables.user_embeddings[order[scorer.users]])
    assert not (order == torch.arange(len(order))).any()
    assert torch.equal(counterfactuals.permuted(scorer, 3, ("item",)).user, own.user)
    assert torch.equal(counterfactuals.permuted(scorer, 3, ("item",)).item, other.item)
    assert not counterfactuals.zeroed(scorer).user.any()
    drawn = counterfactuals.noise(scorer, 0)
    same = (scorer.users[:, None] == scorer.users).nonzero()
    assert all(torch.equal(drawn.user[a], drawn.user[b]) for a, b in same.tolist())
    assert torch.equal(drawn.item, counterfactuals.noise(scorer, 0).item)
    assert not np.allclose(scorer.totals(own), scorer.totals(other))


def test_an_empty_reference_is_named(tiny_run, rows):
    with pytest.raises(DataError, match="expected a reference to score"):
        ReferenceLikelihood(Explainer(tiny_run), rows.with_columns(reference=pl.lit(" ")))


def test_with_all_layers_silent_only_the_token_embedding_speaks(tiny_run, scorer):
    """Then the model is the one with injection `input` and the same weights, which has no hooks at all."""
    model = scorer.model
    whole = scorer.totals(scorer.signal())
    kinds = parts_of(model)
    assert [name for name, _ in kinds["layers"]] == [f"layer {layer}" for layer in range(model.injection_plan.layers)]
    assert [name for name, _ in kinds["projections"]] == ["q", "k", "v"]
    with silenced(model, kinds["all layers"][0][1]):
        silent = scorer.totals(scorer.signal())
    assert np.array_equal(scorer.totals(scorer.signal()), whole)  # and nothing is left behind
    assert model.injection_scale is None
    explainer = Explainer(tiny_run)
    explainer.model.config.injection = "input"
    plan = explainer.model.injection_plan
    plan.mode, plan.parts = "input", 0
    only = ReferenceLikelihood(explainer, _rows_of(scorer), 3)
    np.testing.assert_allclose(silent, only.totals(only.signal()), rtol=1e-6)
    assert not np.allclose(silent, whole, rtol=1e-6)


def _rows_of(scorer):
    users = [scorer.processor.users[row]["user_id"] for row in scorer.users]
    items = [scorer.processor.items[row]["item_id"] for row in scorer.items]
    ids = [[token for token in example["labels"] if token != -100] for example in scorer._examples]
    texts = scorer.processor.read_answers(ids)
    return pl.DataFrame({"user_id": users, "item_id": items, "reference": texts})


def test_a_trained_strength_is_kept_and_multiplied(tiny_xrec):
    model = tiny_xrec(injection_scale="learned")
    torch.nn.init.uniform_(model.injection_scale)
    before = model.injection_scale
    mask = parts_of(model)["layers"][1][1]
    with silenced(model, mask):
        assert torch.equal(model.injection_scale, before * mask)
    assert model.injection_scale is before
    assert parts_of(tiny_xrec(injection="input")) == {}
    assert set(parts_of(tiny_xrec(injection="attention"))) == {"layers", "all layers"}


def test_signals_of_some_rows_are_theirs(scorer):
    own = scorer.signal()
    turned = Signal(own.user.flip(0), own.item.flip(0))
    assert not np.allclose(scorer.totals(turned), scorer.totals(own))
