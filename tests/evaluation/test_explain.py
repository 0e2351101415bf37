import json
import sys
from types import SimpleNamespace

import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.commands import explain_command
from xrec_evaluation.explain import (
    EXPLAINERS,
    Explainer,
    explain_file,
    explain_rows,
    explain_split,
    hears_graph,
    load_explainer,
)
from xrec_evaluation.processes import Processes


class FakeBaseline:
    """Says what it was asked."""

    def __init__(self, model, batch_size=32, max_new_tokens=96):
        self.settings = (str(model), batch_size, max_new_tokens)

    def pairs(self, users, items, progress=False):
        return [f"{user} and {item}" for user, item in zip(users, items, strict=True)]


@pytest.fixture
def baseline(tmp_path, monkeypatch):
    """A folder of a model type whose explainer is `FakeBaseline`."""
    monkeypatch.setitem(sys.modules, "fake_baselines", SimpleNamespace(FakeBaseline=FakeBaseline))
    monkeypatch.setitem(EXPLAINERS, "xrec_fake", "fake_baselines:FakeBaseline")
    folder = tmp_path / "baseline"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "xrec_fake"}))
    return folder


@pytest.fixture
def pairs(tiny_data):
    """A few users and items of the test split."""
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").head(7)
    return table["user_id"].to_list(), table["item_id"].to_list()


class Share(Processes):
    """One of several processes whose shares are done one after the other."""

    def __init__(self, index, count, known):
        super().__init__()
        self.index, self.count, self.known = index, count, known

    def share(self, batches, label, unit):
        self.batches = batches[self.index :: self.count]
        return self.batches

    def gather(self, entries):
        self.known += entries
        return self.known


def share_out(explainer, users, items, count, batch_size):
    """What each of `count` processes returns, the last of which has heard everyone, and the batches of each."""
    known, texts, shares = [], None, []
    for index in range(count):
        shares.append(Share(index, count, known))
        try:
            texts = explain_rows(explainer, users, items, shares[-1], batch_size)
        except KeyError:  # those before the last have not heard of all rows
            assert index < count - 1
    return texts, [share.batches for share in shares]


@pytest.mark.parametrize("count", [2, 3, 9])
@pytest.mark.parametrize("batch_size", [2, 32])
def test_shares_give_the_texts_of_one_process_in_order(tiny_run, pairs, count, batch_size):
    explainer = Explainer(tiny_run, batch_size=batch_size, max_new_tokens=8)
    wanted = explainer.pairs(*pairs)
    texts, shares = share_out(explainer, *pairs, count, batch_size)
    assert texts == wanted == explain_rows(explainer, *pairs)
    assert len(set(wanted)) > 1
    rows = [row for share in shares for batch in share for row in batch]
    assert sorted(rows) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(share for share in shares[: min(count, 7)])


def test_batches_are_those_of_one_process(tiny_run, pairs):
    explainer = Explainer(tiny_run, batch_size=2, max_new_tokens=2)
    asked = []
    processor = explainer.processor
    explainer.processor = lambda **given: (
        asked.append(list(zip(given["user_id"], given["item_id"], strict=True))) or processor(**given)
    )
    for name in ("users", "items", "user_index", "item_index", "tokenizer", "read_answers"):
        setattr(explainer.processor, name, getattr(processor, name))
    explainer.pairs(*pairs)
    alone, asked[:] = list(asked), []
    share_out(explainer, *pairs, 2, 2)
    assert sorted(asked) == sorted(alone)


def test_unknown_users_are_refused_before_anything_is_written(tiny_run, pairs):
    users, items = pairs
    explainer = Explainer(tiny_run)
    explainer._answer = None  # calling it would fail
    for processes in (None, Share(0, 2, [])):
        with pytest.raises(ValueError, match="unknown user 'nobody'"):
            explain_rows(explainer, [*users[:-1], "nobody"], items, processes)


def test_a_models_type_decides_who_explains(baseline, tiny_run, tiny_data, tmp_path):
    explainer = load_explainer(baseline, batch_size=5)
    assert isinstance(explainer, FakeBaseline)
    assert explainer.settings == (str(baseline), 5, 96)
    assert isinstance(load_explainer(tiny_run), Explainer)
    rows = explain_split(baseline, tiny_data, limit=5)
    assert rows["prediction"].to_list() == [
        f"{user} and {item}" for user, item in rows.select("user_id", "item_id").iter_rows()
    ]
    rows.select("user_id", "item_id").write_csv(tmp_path / "pairs.csv")
    assert explain_file(str(baseline), tmp_path / "pairs.csv", tmp_path / "out.parquet") == 5
    assert pl.read_parquet(tmp_path / "out.parquet")["explanation"].equals(rows["prediction"])


def test_a_baselines_rows_are_shared_too(baseline):
    users, items = [f"u{n}" for n in range(5)], [f"i{n}" for n in range(5)]
    explainer = load_explainer(baseline)
    assert share_out(explainer, users, items, 2, 2)[0] == explainer.pairs(users, items)


def test_signals_and_histories_are_refused_by_a_model_without_a_graph(baseline):
    with pytest.raises(DataError, match="expected no signal for a xrec_fake model, which hears no graph, found 'permuted'"):
        load_explainer(baseline, signal="permuted")
    with pytest.raises(DataError, match="expected --user, found --history"):
        explain_command([str(baseline), "--history", "i1", "--item", "i2"])


def test_one_pair_goes_to_the_models_own_explainer(baseline, capsys):
    explain_command([str(baseline), "--user", "u1", "--item", "i2"])
    assert capsys.readouterr().out == "u1 and i2\n"


def test_the_baselines_have_an_explainer():
    assert set(EXPLAINERS) == {"xrec_att2seq", "xrec_nrt", "xrec_peter", "xrec_pepler"}


@pytest.mark.parametrize(
    ("settings", "hears"),
    [
        ({"model_type": "xrec", "injection": "qkv"}, True),
        ({"model_type": "xrec", "injection": "none"}, False),
        ({"model_type": "xrec_peter"}, False),
    ],
)
def test_who_hears_the_graph(tmp_path, settings, hears):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert hears_graph(tmp_path) is hears


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(DataError, match="left, found no config"):
        load_explainer(tmp_path)
