import json

import numpy as np
import pytest
import torch
from bert_score import BERTScorer
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel, RobertaTokenizer

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.bert_scorer import BertScorer

TEXTS = ["The user would enjoy the live music.", "A quiet place for coffee and cake.", "Great beer", "Ça coûte 3 €, 很好"]
REFERENCES = [
    "You would love the bands that play here.",
    "The coffee is good.",
    "It has a wide choice of beer.",
    "很好 and cheap",
]
LAYER = 5


@pytest.fixture(scope="module")
def scorer(minilm):
    return BertScorer(minilm, LAYER, baseline=(0.3, 0.2, 0.25), device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def raw(scorer):
    return scorer.rows(TEXTS, REFERENCES)


def slow(minilm, prediction, reference):
    """Greedy matching by its definition, from hidden states of the whole encoder."""
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm)
    found = []
    for text in (prediction, reference):
        ids = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            vectors = model(**ids, output_hidden_states=True).hidden_states[LAYER][0]
        found.append([v / v.norm() for v in vectors])
    # Special tokens weigh nothing themselves, but can be matched.
    best = [[max(float(a @ b) for b in other) for a in own[1:-1]] for own, other in (found, found[::-1])]
    precision, recall = (sum(values) / len(values) for values in best)
    return [precision, recall, 2 * precision * recall / (precision + recall)]


def test_rows_are_the_definition(minilm, raw):
    for row in range(len(TEXTS)):
        expected = slow(minilm, TEXTS[row], REFERENCES[row])
        assert [raw[f"bert_{part}"][row] for part in ("precision", "recall", "f1")] == pytest.approx(expected, abs=1e-5)


def test_rows_are_the_librarys_own(minilm, raw):
    expected = BERTScorer(model_type=str(minilm), num_layers=LAYER, device="cpu").score(TEXTS, REFERENCES)
    for part, values in zip(("precision", "recall", "f1"), expected, strict=True):
        np.testing.assert_allclose(raw[f"bert_{part}"], values, atol=1e-6)


def test_rescaled_figures_have_names_and_baselines_of_their_own(raw, scorer):
    for part, base in zip(("precision", "recall", "f1"), (0.3, 0.2, 0.25), strict=True):
        np.testing.assert_allclose(raw[f"bert_{part}_rescaled"], (raw[f"bert_{part}"] - base) / (1 - base))
    assert "layer 5, no idf, raw and rescaled by P 0.3 R 0.2 F1 0.25, bert-score 0.3" in scorer.setting


def test_without_a_baseline_nothing_is_rescaled(minilm):
    plain = BertScorer(minilm, LAYER, device="cpu")
    assert set(plain.rows(["a"], ["b"])) == {"bert_precision", "bert_recall", "bert_f1"}
    assert ", raw, bert-score" in plain.setting


def test_empty_texts_score_zero_and_change_nothing_else(scorer, raw):
    predictions = ["", *TEXTS, "a", "\u200b", "  "]
    found = scorer.rows(predictions, ["a", *REFERENCES, "\n", "b", ""])
    for part in ("precision", "recall", "f1"):
        np.testing.assert_allclose(found[f"bert_{part}"][1:5], raw[f"bert_{part}"], atol=1e-6)
        assert found[f"bert_{part}"][[0, 5, 6, 7]].tolist() == [0.0] * 4
        assert np.isfinite(found[f"bert_{part}_rescaled"]).all()
    one = scorer.rows(["a b"], ["a b"])
    assert one["bert_f1"][0] == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="at least one row"):
        scorer.rows([], [])


def test_long_texts_are_cut_at_the_positions_of_the_encoder(scorer):
    long = "good " * 2000
    assert scorer.rows([long], ["good " * 510])["bert_f1"][0] == pytest.approx(1, abs=1e-6)


def test_idf_weighs_tokens_by_the_references(minilm):
    weighted = BertScorer(minilm, LAYER, idf=True, device="cpu")
    predictions, references = ["the cake", "the beer", "the", ""], ["the coffee", "the beer", "the tea", "the milk"]
    found = weighted.rows(predictions, references)
    library = BERTScorer(model_type=str(minilm), num_layers=LAYER, device="cpu", idf=True, nthreads=0)
    library.compute_idf(references)
    expected = library.score(predictions[:2], references[:2])
    for part, values in zip(("precision", "recall", "f1"), expected, strict=True):
        np.testing.assert_allclose(found[f"bert_{part}"][:2], values, atol=1e-6)
    # "the" is in all references and weighs nothing: the library gives NaN.
    assert found["bert_precision"].tolist()[2:] == found["bert_f1"].tolist()[2:] == [0.0, 0.0]
    assert "idf of the references" in weighted.setting


def tiny_roberta(folder):
    """A byte-level tokenizer without a stated limit, and an encoder with 40 positions, 38 of them usable."""
    letters = [chr(code) for code in range(33, 127)] + ["\u0120", "\u0120t"]
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters])}
    RobertaTokenizer(vocab=vocabulary, merges=[("\u0120", "t")]).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=40, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    RobertaModel(config).save_pretrained(folder)
    return folder


def test_byte_level_encoders_get_the_space_before_the_first_word_and_a_limit(tmp_path):
    folder = tiny_roberta(tmp_path / "roberta")
    scorer = BertScorer(folder, 2, device="cpu")
    found = scorer.rows(["the " * 100, "t"], ["the the", "t"])
    assert np.isfinite(found["bert_f1"]).all()
    # With the space, which bert-score had before transformers 5, the first word is the same token as every later one.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        a, b = (
            torch.nn.functional.normalize(model(torch.tensor([tokenizer.encode(text)])).last_hidden_state[0], dim=-1)
            for text in (" t t", " t")
        )
    assert scorer.rows(["t t"], ["t"])["bert_precision"][0] == pytest.approx(
        float((a @ b.T).max(dim=1).values[1:-1].mean()), abs=1e-5
    )


def test_the_librarys_baseline_of_roberta_large():
    from xrec_evaluation.bert_scorer import _library_baseline

    assert _library_baseline("roberta-large", 17) == (0.83150584, 0.8314941, 0.83122575)
    with pytest.raises(DataError, match="a baseline of 'nobody/none', layer 3"):
        _library_baseline("nobody/none", 3)


def test_what_cannot_be_loaded_is_one_line(minilm, tmp_path):
    for name, layer, message in (
        (minilm, None, "expected the layer"),
        (minilm, 7, "with layer 7"),
        (tmp_path / "nothing", 2, "expected an encoder"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            BertScorer(name, layer, device="cpu")
        assert "\n" not in str(caught.value)


def test_a_path_that_bert_score_takes_for_a_t5_is_refused(minilm, tmp_path):
    (tmp_path / "my-t5-notes").symlink_to(minilm)
    with pytest.raises(DataError, match="rename it"):
        BertScorer(tmp_path / "my-t5-notes", 2, device="cpu")


def test_a_broken_encoder_is_not_hidden_behind_zeros(minilm, tmp_path):
    model = AutoModel.from_pretrained(minilm)
    model.embeddings.LayerNorm.weight.data.fill_(float("nan"))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
    with pytest.raises(DataError, match="found NaN"):
        BertScorer(tmp_path, 2, device="cpu").rows(["a"], ["b"])
