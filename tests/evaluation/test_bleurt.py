import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.bleurt import BleurtScorer

PREDICTIONS = ["good beer", "a much longer text about the music and the food", ""]
REFERENCES = ["the beer is good", "music", "something"]


def checkpoint(minilm, folder, outputs):
    """A random tiny BERT with MiniLM's words."""
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=64, num_labels=outputs, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(minilm, tmp_path_factory):
    return checkpoint(minilm, tmp_path_factory.mktemp("bleurt"), 1)


def test_rows_are_the_single_output_for_reference_then_prediction(folder):
    scorer = BleurtScorer(folder, device="cpu", batch_size=2)
    found = scorer.rows(PREDICTIONS, REFERENCES)["bleurt"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), BertForSequenceClassification.from_pretrained(folder).eval()
    swapped = []
    for row, (prediction, reference) in enumerate(zip(PREDICTIONS, REFERENCES, strict=True)):
        with torch.no_grad():
            expected = model(**tokenizer([reference], [prediction], return_tensors="pt")).logits.item()
            swapped.append(model(**tokenizer([prediction], [reference], return_tensors="pt")).logits.item())
        assert found[row] == pytest.approx(expected, abs=1e-5)
    assert np.abs(found - swapped).max() > 0.01
    assert "(reference, prediction)" in scorer.setting
    assert np.isfinite(scorer.rows(["word " * 300], ["word " * 300])["bleurt"]).all()


def test_what_cannot_be_used_is_one_line(minilm, folder, tmp_path):
    with pytest.raises(DataError, match="found 3 in"):
        BleurtScorer(checkpoint(minilm, tmp_path / "three", 3), device="cpu")
    with pytest.raises(DataError, match="expected a BLEURT checkpoint"):
        BleurtScorer(tmp_path / "nothing", device="cpu")
    with pytest.raises(DataError, match="at least one row"):
        BleurtScorer(folder, device="cpu").rows([], [])
