import json

import numpy as np
import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, REVIEWS, DatasetFolder, read_table
from xrec_dataset_builder.synthetic_text import ASPECTS
from xrec_evaluation.aspect_f1 import load_truth, named_aspects
from xrec_evaluation.claims import content_words
from xrec_evaluation.grounding import Options, ground
from xrec_evaluation.grounding_thresholds import Threshold, Thresholds, other_pairs
from xrec_evaluation.verdicts import VERDICTS

from .grounding_world import write_world

GIVEN = Thresholds(Threshold(0.6, 0.5, 0.5), Threshold(0.6, 0.5, 0.5))


class WordNli:
    """Entailed when the premise has every content word of the hypothesis, contradicted when it says so with a "not"."""

    name = "words"

    def judge(self, premises, hypotheses):
        rows = []
        for premise, hypothesis in zip(premises, hypotheses, strict=True):
            has = set(content_words(hypothesis)) <= set(content_words(premise))
            negated = " no " in f" {premise.lower()} "
            rows.append((float(has and not negated), float(has and negated)))
        return np.array(rows, dtype=np.float32).reshape(-1, 2)


@pytest.fixture(scope="module")
def planted(tiny_data):
    """Test pairs, each with a true aspect and one that no review of the item ever names; and what is true of each."""
    truth = load_truth(tiny_data)
    reviews = read_table(DatasetFolder(tiny_data).reviews, REVIEWS)
    has = {}
    for item, text in reviews.select("item_id", "review").iter_rows():
        has.setdefault(item, set()).update(named_aspects(text, truth.aspects))
    described = read_table(DatasetFolder(tiny_data).items, {"item_id": pl.String, "item_profile": pl.String})
    for item, text in described.iter_rows():
        has.setdefault(item, set()).update(named_aspects(text, truth.aspects))
    test = read_table(DatasetFolder(tiny_data).explanations("test"), EXPLANATIONS)
    rng = np.random.default_rng(0)
    shared = truth.shared(test["user_id"].to_list(), test["item_id"].to_list())
    texts, facts = [], []
    for item, own in zip(test["item_id"].to_list(), shared, strict=True):
        true, false = rng.choice(sorted(own)), rng.choice(sorted(set(ASPECTS) - has[item]))
        texts.append(f"The user would enjoy this place for the {ASPECTS[true]} and the {ASPECTS[false]}.")
        facts.append({ASPECTS[true]: True, ASPECTS[false]: False})
    return test.select("user_id", "item_id").with_columns(prediction=pl.Series(texts)), facts


@pytest.fixture(scope="module")
def grounded(tiny_data, planted, encoder):
    return ground(planted[0], tiny_data, encoder)


def test_true_claims_are_found_and_planted_false_ones_are_not(grounded, planted):
    facts = [planted[1][row][claim] for row, claim in grounded.claims.select("row", "claim").iter_rows()]
    found = (grounded.claims["verdict"] == "supported").to_numpy()
    facts = np.array(facts)
    assert len(facts) == 2 * len(planted[0])
    recall, false_alarms = found[facts].mean(), found[~facts].mean()
    assert recall > 0.9
    assert false_alarms < 0.2
    precision = grounded.summary()["precision"]
    assert precision["value"] == pytest.approx((recall + false_alarms) / 2)
    assert precision["difference"]["low"] > 0  # true aspects are the pair's own


def test_figures_are_means_of_the_claims(grounded):
    summary = grounded.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    shares = grounded.claims.group_by("row").agg(share=(pl.col("verdict") == "supported").mean()).sort("row")
    np.testing.assert_allclose(grounded.rows["supported"], shares["share"])
    assert summary["precision"]["value"] == pytest.approx(shares["share"].mean())
    assert sum(summary["verdicts"].values()) == summary["claims"] == len(grounded.claims) == grounded.rows["claims"].sum()
    assert summary["contradicted"] is None
    both = grounded.rows.drop_nulls(["supported", "floor_supported"])
    assert summary["precision"]["floor"]["value"] == pytest.approx(both["floor_supported"].mean())


def test_evidence_shown_is_a_training_text_of_its_source(grounded, tiny_data):
    reviews = read_table(DatasetFolder(tiny_data).reviews, REVIEWS).filter(pl.col("split") == "train")
    by_item = dict(reviews.group_by("item_id").agg("review").iter_rows())
    shown = grounded.claims.filter((pl.col("verdict") == "supported") & (pl.col("source") == "item_reviews"))
    assert len(shown) > 20
    for row, claim, evidence, phrase, score in shown.select("row", "claim", "evidence", "phrase", "score").iter_rows():
        assert any(evidence in review for review in by_item[grounded.rows["item_id"][row]])
        assert phrase in evidence
        assert score > grounded.thresholds.item.cosine
        assert claim in grounded.predictions[row]


def test_the_floor_is_the_same_claims_against_the_partners_evidence(grounded, planted, tiny_data, encoder):
    rows = planted[0]
    pairs = list(rows.select("user_id", "item_id").iter_rows())
    partners = other_pairs(pairs, grounded.options.seed)
    moved = pl.DataFrame([pairs[other] for other in partners], schema=["user_id", "item_id"], orient="row")
    swapped = ground(moved.with_columns(rows["prediction"]), tiny_data, encoder, thresholds=grounded.thresholds)
    assert swapped.rows["supported"].to_list() == grounded.rows["floor_supported"].to_list()
    assert swapped.rows["supported_by_user"].to_list() == grounded.rows["floor_supported_by_user"].to_list()
    assert swapped.rows["unfounded_words"].list.len().to_list() == grounded.rows["floor_unfounded_words"].to_list()


def test_blocks_bound_memory_and_change_no_verdict(grounded, planted, tiny_data, encoder):
    small = ground(planted[0], tiny_data, encoder, thresholds=grounded.thresholds, options=Options(block=7))
    for name in ("row", "claim", "verdict", "source", "evidence"):
        assert small.claims[name].to_list() == grounded.claims[name].to_list()
    np.testing.assert_allclose(small.claims["score"], grounded.claims["score"], atol=1e-5)
    assert small.rows["supported"].to_list() == grounded.rows["supported"].to_list()


def test_words_found_nowhere_are_counted(tiny_data, planted, encoder, grounded):
    rows = planted[0].head(3).with_columns(prediction=pl.lit("The user loved the zeppelin of Captain Zorro and the zeppelin."))
    summary = ground(rows, tiny_data, encoder, thresholds=grounded.thresholds).summary()
    found = {one["text"]: one["rows"] for one in summary["unfounded_words"]}
    assert found == {"zeppelin": 3, "captain": 3, "zorro": 3}
    assert summary["unfounded_names"] == [{"text": "Captain Zorro", "rows": 3}]
    assert summary["unfounded_words_per_row"]["value"] == 3


def rows_of(*rows):
    return pl.DataFrame(rows, schema=["user_id", "item_id", "prediction"], orient="row")


def test_verdicts_by_evidence_and_entailment(tmp_path, encoder):
    data = write_world(tmp_path / "data")
    items = DatasetFolder(data).items
    pl.read_parquet(items).with_columns(
        item_profile=pl.col("item_profile").str.replace("the cheap tea", "the cheap tea. It has no shady roof")
    ).write_parquet(items)
    rows = rows_of(("u3", "i1", "It has live music, shady roof, grilled fish and a nuclear submarine."))
    plain = ground(rows, data, encoder, thresholds=GIVEN)
    by_claim = dict(plain.claims.select("claim", "verdict").iter_rows())
    assert by_claim == {
        "live music": "supported",
        "shady roof": "supported",  # a cosine does not hear the "no"
        "grilled fish": "user only",
        "nuclear submarine": "unsupported",
    }
    judged = ground(rows, data, encoder, WordNli(), GIVEN)
    assert dict(judged.claims.select("claim", "verdict").iter_rows()) == by_claim | {"shady roof": "contradicted"}
    summary = judged.summary()
    assert summary["contradicted"]["value"] == 0.25
    assert summary["precision"] == {"value": 0.25, "low": None, "high": None, "rows": 1, "floor": None, "difference": None}
    (example,) = judged.as_examples([0])
    assert [claim["claim"] for claim in example["claims"]] == list(by_claim)
    assert example["claims"][1] | {"score": 0} == {
        "claim": "shady roof",
        "verdict": "contradicted",
        "source": "item_profile",
        "phrase": "no shady roof",
        "evidence": "It has no shady roof.",
        "score": 0,
        "entailment": 0.0,
        "contradiction": 1.0,
    }
    assert (example["supported"], example["prediction"]) == (0.25, rows["prediction"][0])
    assert example["unfounded_words"] == ["nuclear", "submarine"]
    assert json.dumps(example, allow_nan=False)
    with pytest.raises(DataError, match="expected rows from 0 to 0, found 3"):
        judged.as_examples([3])


def test_texts_and_items_that_cannot_be_judged(tmp_path, encoder):
    data = write_world(tmp_path / "data")
    rows = rows_of(
        ("u1", "i1", ""),
        ("u1", "i1", None),
        ("u2", "i3", "The user would enjoy it."),
        ("u1", "i4", "The user loved the live music."),  # an item without any text
        ("u1", "nowhere", "The user loved the live music."),
        ("nobody", "i3", "The user loved the grilled fish."),
        ("u3", "i1", "川菜很辣\uff0c服务也很好。"),
        ("u3", "i1", "Живая музыка, тихая терраса."),
        ("u1", "i5", "The user loved the live music."),  # a title alone says too little
    )
    found = ground(rows, data, encoder, WordNli(), GIVEN)
    assert found.rows["claims"].to_list() == [0, 0, 0, 1, 1, 1, 2, 2, 1]
    assert found.rows["supported"].to_list() == [None, None, None, None, None, 1.0, 0.0, 0.0, None]
    assert found.claims["verdict"].to_list()[:3] == ["no evidence", "no evidence", "supported"]
    assert found.claims["verdict"].to_list()[-1] == "no evidence"
    assert found.rows["unfounded_words"][6] is None
    assert found.rows["unfounded_words"][7].to_list() == ["живая", "музыка", "тихая", "терраса"]
    summary = found.summary()
    assert (summary["rows_without_claims"], summary["rows_without_item_evidence"]) == (3, 3)
    assert (summary["unknown_users"], summary["unknown_items"]) == (1, 1)
    assert summary["precision"]["rows"] == 3
    json.dumps(summary, allow_nan=False)
    assert len(found.as_examples(range(9))) == 9


def test_nothing_to_judge_gives_no_figure(tmp_path, encoder):
    data = write_world(tmp_path / "data")
    found = ground(rows_of(("u1", "i1", ""), ("u2", "i3", "Great!")), data, encoder, thresholds=GIVEN)
    summary = found.summary()
    assert summary["precision"] is summary["supported_by_user"] is None
    assert (summary["claims"], summary["verdicts"]) == (0, dict.fromkeys(VERDICTS, 0))
    assert found.as_examples([1])[0]["claims"] == []


def test_wrong_input_is_one_line(tmp_path, encoder):
    data = write_world(tmp_path / "data")
    with pytest.raises(DataError, match="expected at least one row"):
        ground(rows_of(), data, encoder, thresholds=GIVEN)
    with pytest.raises(DataError, match="found no prediction"):
        ground(rows_of(("u1", "i1", "x")).drop("prediction"), data, encoder, thresholds=GIVEN)
    with pytest.raises(DataError, match="found 1 without"):
        ground(rows_of((None, "i1", "x")), data, encoder, thresholds=GIVEN)
    with pytest.raises(DataError, match=r"expected items of .* found none of the 1"):
        ground(rows_of(("u1", "i99", "x")), data, encoder, thresholds=GIVEN)
    with pytest.raises(DataError, match="foreign claims"):
        ground(rows_of(("u1", "i1", "x")), data, encoder)
    with pytest.raises(DataError, match="blocks of at least 2"):
        Options(block=1)
