"""From `xrec train` to texts by ids, for every baseline."""

import math
from collections import Counter

import pytest
from transformers import AutoTokenizer

from xrec_baselines.explainer import BaselineExplainer
from xrec_training.finetune import train
from xrec_training.recipe import read_recipe
from xrec_training.tables import read_explanations

FAST = {
    "att2seq": {"hidden_size": 48, "learning_rate": 0.01},
    "nrt": {"latent_size": 48, "hidden_size": 48, "learning_rate": 0.01},
    "peter": {"hidden_size": 48, "intermediate_size": 48},
    "pepler": {"scratch.epochs": 2, "scratch.hidden_size": 48, "scratch.layers": 1, "learning_rate": 0.01, "prompt_epochs": 2},
}


@pytest.fixture(scope="session", params=FAST)
def run(request, tiny_data, tmp_path_factory):
    """A baseline trained on the small world, and its log."""
    out = tmp_path_factory.mktemp(request.param) / "model"
    settings = {"num_train_epochs": 12, "per_device_train_batch_size": 16, "disable_tqdm": True, "scratch.vocab_size": 600}
    train(tiny_data, None, out, read_recipe(None, {"model": request.param} | settings | FAST[request.param]))
    return out


def unigram_entropy(data, tokenizer) -> float:
    """Nats a token of a model that knows how often each token is written, and nothing else."""
    texts = [f" {text}" for text in read_explanations(data, "train")["explanation"]]
    counts: Counter = Counter()
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        counts.update([*ids, tokenizer.eos_token_id])
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def test_training_learns_and_the_texts_read_as_the_explanations_do(run, tiny_data):
    import torch

    explainer, rows = BaselineExplainer(run, batch_size=7, max_new_tokens=40), read_explanations(tiny_data, "validation")
    texts = explainer.pairs(rows["user_id"].to_list(), rows["item_id"].to_list())
    assert len(texts) == rows.height
    assert len(set(texts)) > 1
    words = {word for text in read_explanations(tiny_data, "train")["explanation"] for word in text.split()}
    written = [word for text in texts for word in text.split()]
    assert sum(word in words for word in written) > 0.9 * len(written) > 0
    model, losses = explainer.model, []
    for row in rows.head(40).iter_rows(named=True):
        ids = explainer.tokenizer(f" {row['explanation']}", add_special_tokens=False)["input_ids"]
        text = torch.tensor([[model.config.bos_token_id, *ids, model.config.eos_token_id]])
        pair = [torch.tensor([explainer.rows[side][row[f"{side}_id"]]]) for side in ("user", "item")]
        log_p = model(*pair, input_ids=text).logits.log_softmax(-1)
        losses += [-log_p[0, place, token].item() for place, token in enumerate(text[0, 1:].tolist())]
    tokenizer = AutoTokenizer.from_pretrained(run)
    assert sum(losses) / len(losses) < 0.6 * unigram_entropy(tiny_data, tokenizer)


def test_texts_keep_their_order_whatever_the_batch(run, tiny_data):
    rows = read_explanations(tiny_data, "validation").head(9)
    users, items = rows["user_id"].to_list(), rows["item_id"].to_list()
    three, one = (BaselineExplainer(run, batch_size=size, max_new_tokens=12).pairs(users, items) for size in (3, 1))
    assert three == one


def test_unknown_ids_are_named_before_anything_is_written(run):
    explainer = BaselineExplainer(run)
    known = {side: next(iter(rows)) for side, rows in explainer.rows.items()}
    with pytest.raises(ValueError, match=r"^unknown user 'nobody': expected one of the model's 60 users \(such as 'u"):
        explainer.pairs([known["user"], "nobody"], [known["item"]] * 2)
    with pytest.raises(ValueError, match=r"^unknown item 'nothing': expected one of the model's 40 items"):
        explainer.pairs([known["user"]], ["nothing"])
    with pytest.raises(ValueError, match=r"^expected user ids as text, found 3 \(int\)"):
        explainer.pairs([3], [known["item"]])
    assert explainer.pairs([], []) == []


def test_a_wrong_folder_is_named_in_one_line(tiny_run, tmp_path, run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "config.json").write_bytes((run / "config.json").read_bytes())
    for folder, found in (
        (tmp_path / "empty", "found no config.json in it"),
        (tmp_path / "absent", "found none"),
        (tmp_path / "part", "found none"),
        (tiny_run, r"expected a model of type xrec_att2seq, .*, found 'xrec'"),
    ):
        with pytest.raises(ValueError, match=found) as caught:
            BaselineExplainer(folder)
        assert "\n" not in str(caught.value)
