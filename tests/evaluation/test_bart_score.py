import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.bart_score import BartScorer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = ["the", "user", "would", "enjoy", "live", "music", "beer", "and", "a", "quiet", "place"]
PREDICTIONS = ["the user would enjoy live music", "beer", "a quiet place and a beer and music", ""]
REFERENCES = ["live music", "the user would enjoy the beer and the music and the place", "a quiet place", "beer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random BART of two layers with a tokenizer of words that frames texts as BART's does."""
    path = tmp_path_factory.mktemp("bart")
    vocabulary = {token: i for i, token in enumerate(SPECIAL + WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(path)
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32, init_std=0.5,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def scorer(folder):
    return BartScorer(folder, device="cpu", batch_size=3)


def slow(folder, source, target):
    """Mean log p of the target's tokens, one step of the decoder at a time."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = BartForConditionalGeneration.from_pretrained(folder).eval()
    read, write = (torch.tensor([tokenizer(text)["input_ids"]]) for text in (source, target))
    prefix, logs = [model.config.decoder_start_token_id], []
    for token in write[0].tolist():
        with torch.no_grad():
            logits = model(input_ids=read, decoder_input_ids=torch.tensor([prefix])).logits[0, -1]
        logs.append(float(logits.log_softmax(-1)[token]))
        prefix.append(token)
    return sum(logs) / len(logs)


def test_both_directions_are_the_plain_loop(folder, scorer):
    found = scorer.rows(PREDICTIONS, REFERENCES)
    for row, (prediction, reference) in enumerate(zip(PREDICTIONS, REFERENCES, strict=True)):
        recall, precision = slow(folder, prediction, reference), slow(folder, reference, prediction)
        assert found["bart_recall"][row] == pytest.approx(recall, abs=1e-5)
        assert found["bart_precision"][row] == pytest.approx(precision, abs=1e-5)
        assert found["bart_f1"][row] == pytest.approx((recall + precision) / 2, abs=1e-5)
    assert abs(found["bart_recall"] - found["bart_precision"]).max() > 0.05
    assert str(folder) in scorer.setting
    assert "recall: prediction -> reference" in scorer.setting


def test_a_batch_is_its_rows_alone(folder, scorer):
    alone = [scorer.log_likelihood([source], [target])[0] for source, target in zip(PREDICTIONS, REFERENCES, strict=True)]
    together = BartScorer(folder, device="cpu", batch_size=4).log_likelihood(PREDICTIONS, REFERENCES)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_empty_and_long_texts_give_figures(scorer):
    found = scorer.rows(["", "beer " * 500, ""], ["", "music", "live"])
    assert all(np.isfinite(values).all() and (values <= 0).all() for values in found.values())


def test_what_cannot_be_used_is_one_line(minilm, scorer, tmp_path):
    with pytest.raises(DataError, match="2 and 1"):
        scorer.rows(["a", "b"], ["a"])
    for name in (minilm, tmp_path / "nothing"):
        with pytest.raises(DataError, match="expected a seq2seq model") as caught:
            BartScorer(name, device="cpu")
        assert "\n" not in str(caught.value)
