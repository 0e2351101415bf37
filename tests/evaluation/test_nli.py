import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.nli import Entailment

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "."]
WORDS += ["it", "has", "a", "an", "is", "not", "strong", "coffee", "quiet", "garden", "tea", "bar", "open", "late", "the"]
SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
MODELS = {
    "bert": (BertConfig, BertForSequenceClassification, {}),
    "deberta": (
        DebertaV2Config,
        DebertaV2ForSequenceClassification,
        {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0},
    ),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, {"pad_token_id": 0, "type_vocab_size": 2}),
}
PAIRS = [
    ("It has strong coffee.", "It has coffee."),
    ("The bar is open late and it is quiet, not a tea garden.", "It has a garden."),
    ("", "It is open."),
    ("It has strong coffee.", "It has coffee."),
    ("the " * 200, "It has tea."),
]


def save(folder, kind, labels):
    """A tiny random classifier with a tokenizer of words, as a checkpoint on disk."""
    config_type, model_type, extra = MODELS[kind]
    torch.manual_seed(0)
    config = config_type(**SIZES, **extra, max_position_embeddings=64, id2label=dict(enumerate(labels)), initializer_range=0.6)
    model_type(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names).save_pretrained(folder)
    return folder


@pytest.fixture(params=["bert", "deberta", "roberta"])
def checkpoint(request, tmp_path):
    return save(tmp_path / request.param, request.param, ["CONTRADICTION", "neutral", "Entailment"])


def test_a_batch_is_only_faster(checkpoint):
    nli = Entailment(checkpoint, device="cpu", batch_size=3)
    premises, hypotheses = zip(*PAIRS, strict=True)
    judged = nli.judge(premises, hypotheses)
    alone = np.concatenate([nli.judge([premise], [hypothesis]) for premise, hypothesis in PAIRS])
    assert judged.shape == (5, 2)
    assert np.ptp(judged) > 0.01  # a model that says the same of every pair would show nothing
    np.testing.assert_allclose(judged, alone, atol=1e-6)
    np.testing.assert_array_equal(judged[0], judged[3])


def test_labels_are_found_by_name(checkpoint, tmp_path):
    """The same weights with the label names turned round give the same columns turned round."""
    premises, hypotheses = zip(*PAIRS, strict=True)
    one = Entailment(checkpoint, device="cpu").judge(premises, hypotheses)
    turned = save(tmp_path / "turned", checkpoint.name, ["entailment", "neutral", "contradiction"])
    other = Entailment(turned, device="cpu").judge(premises, hypotheses)
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-6)
    assert np.abs(one - other).max() > 0.01


def test_probabilities_are_the_models_softmax(checkpoint):
    nli = Entailment(checkpoint, device="cpu")
    inputs = nli._tokenizer("It has tea.", "It is quiet.", return_tensors="pt")
    expected = nli._model(**inputs).logits.softmax(-1)[0, [2, 0]].detach().numpy()
    np.testing.assert_allclose(nli.judge(["It has tea."], ["It is quiet."])[0], expected, atol=1e-6)


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1", "LABEL_2"], ["not_entailment", "entailment"]])
def test_a_model_without_the_labels_is_refused(tmp_path, labels):
    with pytest.raises(DataError, match="expected one label with"):
        Entailment(save(tmp_path / "model", "bert", labels), device="cpu")


def test_no_pairs_and_no_model(tmp_path):
    nli = Entailment(save(tmp_path / "model", "bert", ["contradiction", "entailment", "neutral"]), device="cpu")
    assert nli.judge([], []).shape == (0, 2)
    with pytest.raises(ValueError, match="argument 2"):
        nli.judge(["a"], [])
    with pytest.raises(DataError, match="expected a sequence classifier"):
        Entailment(tmp_path / "nothing")
