import json
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from xrec_dataset_builder.errors import DataError
from xrec_evaluation.audit import AuditOptions, audit, reference_rows, verdicts, worth
from xrec_evaluation.audit_commands import audit_command
from xrec_evaluation.dilution import by_length, by_place
from xrec_evaluation.explain import Explainer
from xrec_evaluation.likelihood import ReferenceLikelihood
from xrec_evaluation.structure import held_out_rows, skipped_reason
from xrec_evaluation.text_changes import compare_texts
from xrec_training.finetune import train

FEW = AuditOptions(rows=24, permutations=3, ablation_rows=6, text_rows=4)


def test_a_permuted_signal_costs_what_the_definition_says(tiny_run, tiny_data):
    """Bits by the plain definition, from the totals of each permutation."""
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").head(9)
    scorer = ReferenceLikelihood(Explainer(tiny_run), table.select("user_id", "item_id", reference="explanation"))
    from xrec_evaluation import counterfactuals

    own = scorer.totals(scorer.signal())
    others = np.stack([scorer.totals(counterfactuals.permuted(scorer, seed)) for seed in range(3)])
    found, _ = worth(scorer, 3)
    assert found["permuted"]["value"] == pytest.approx((own - others.mean(axis=0)).mean() / np.log(2))
    average = np.log2(np.exp(others.astype(np.longdouble)).mean(axis=0)).astype(float)
    assert found["average"]["value"] == pytest.approx((own / np.log(2) - average).mean())
    assert found["average"]["value"] <= found["permuted"]["value"]  # Jensen


@pytest.fixture(scope="module")
def audited(tiny_run, tiny_data):
    return audit(tiny_run, tiny_data, options=FEW)


def test_all_parts_are_there_and_finite(audited):
    assert json.loads(json.dumps(audited, allow_nan=False)) == audited
    assert audited["rows"] == 24
    assert audited["verdicts"]["depends_on_structure"]["answer"] is None
    assert "--hold_out" in audited["verdicts"]["depends_on_structure"]["text"]
    assert set(audited["bits"]) == {"permuted", "average", "permuted user", "permuted item", "zero", "noise"}
    assert [len(parts) for parts in audited["ablations"].values()] == [1, 3, 1]
    assert audited["texts"]["rows"] == 4
    assert len(audited["gates"]["user"]) == 8
    assert len(audited["map"]["points"]) == len(audited["map"]["clusters"]) == len(audited["map"]["titles"]) == 40
    places = audited["dilution"]["by_place"]
    assert places[0]["first"] == 1
    assert all(a["last"] + 1 == b["first"] for a, b in pairwise(places))


def test_a_model_that_hears_nothing_depends_on_nothing(tiny_data, tiny_graph, tiny_run, tmp_path, recipe_of):
    recipe = recipe_of(signal="none", backbone=str(tiny_run) + "-backbone")
    train(tiny_data, tiny_graph, tmp_path / "none", recipe)
    found = audit(tmp_path / "none", tiny_data, options=FEW)
    assert found["verdicts"]["depends_on_vector"]["answer"] is False
    assert all(figure == {"value": 0.0, "low": 0.0, "high": 0.0} for figure in found["bits"].values())
    assert found["texts"]["permuted"]["changed"]["value"] == 0
    assert found["ablations"] == found["gates"] == {}


def test_structure_is_asked_on_held_out_pairs_beside_a_fair_rival(
    tiny_data, tiny_graph, tiny_run, tmp_path, recipe_of, monkeypatch
):
    monkeypatch.setattr("xrec_evaluation.structure.LEAST_ROWS", 2)
    settings = {"backbone": str(tiny_run) + "-backbone", "hold_out": 0.6}
    for name, signal in (("graph", "graph"), ("random", "random-fixed")):
        train(tiny_data, tiny_graph, tmp_path / name, recipe_of(signal=signal, **settings))
    found = audit(tmp_path / "graph", tiny_data, [tmp_path / "random"], AuditOptions(rows=None, permutations=2, text_rows=0))
    rows = held_out_rows(reference_rows(tiny_data), 0.6)
    own, other = (
        scorer.totals(scorer.signal())
        for scorer in (ReferenceLikelihood(Explainer(tmp_path / name), rows) for name in ("graph", "random"))
    )
    held_out = found["held_out"]
    assert (held_out["rows"], held_out["models"], held_out["share"]) == (len(rows), ["random"], 0.6)
    assert held_out["random_fixed"]["value"] == pytest.approx((own - other).mean() / np.log(2), rel=1e-6)
    assert found["verdicts"]["depends_on_structure"]["answer"] in (True, False)
    with pytest.raises(DataError, match="expected a model trained with --signal random-fixed, found 'graph'"):
        audit(tmp_path / "graph", tiny_data, [tmp_path / "graph"])
    with pytest.raises(DataError, match=r"the same --hold_out, found 0\.0 in .* and 0\.6"):
        audit(tiny_run, tiny_data, [tmp_path / "random"])
    for text in ("{", "[]", '{"recipe": 3}'):
        (tmp_path / "random" / "training.json").write_text(text)
        with pytest.raises(DataError, match="train again"):
            audit(tmp_path / "graph", tiny_data, [tmp_path / "random"])


def test_held_out_rows_were_not_trained_on(tiny_data):
    from xrec_dataset_builder.held_out import without_held_out

    tables = {s: pl.read_parquet(tiny_data / "data" / "explanations" / f"{s}.parquet") for s in ("train", "test")}
    known = without_held_out(tables["train"], 0.5)
    asked = held_out_rows(tables["test"], 0.5)
    assert len(asked)
    assert not set(asked["user_id"]) & set(known["user_id"])
    assert not set(asked["item_id"]) & set(known["item_id"])


@pytest.mark.parametrize(
    ("gain", "own", "answer"),
    [((0.1, 0.5), (0.2, 0.4), True), ((0.1, 0.5), (-0.1, 0.4), False), ((-0.1, 0.5), (0.2, 0.4), False)],
)
def test_structure_takes_both_differences(gain, own, answer):
    """A model that is merely better trained gains over random embeddings, but not over its own ones exchanged."""
    figure = {"value": 0.3, "low": 0.2, "high": 0.4}
    spans = {
        name: {"value": 0.3, "low": low, "high": high} for name, (low, high) in (("random_fixed", gain), ("permuted", own))
    }
    found = verdicts({"bits": {"permuted": figure}, "held_out": {"rows": 99, **spans}})
    assert found["depends_on_structure"]["answer"] is answer
    assert found["depends_on_structure"]["text"].startswith("Yes" if answer else "No")


def test_why_structure_was_not_asked():
    assert "--hold_out" in skipped_reason(0.0, 99, 1)
    assert "29" in skipped_reason(0.3, 29, 1)
    assert "random-fixed" in skipped_reason(0.3, 30, 0)
    assert skipped_reason(0.3, 30, 1) is None


def test_dilution_by_the_plain_definition():
    rng = np.random.default_rng(0)
    bits = [rng.normal(size=size) for size in (1, 3, 5, 9, 30, 30, 140)]
    for group in by_place(bits):
        means = [np.mean(row[group["first"] - 1 : group["last"]]) for row in bits if len(row) >= group["first"]]
        assert (group["rows"], group["value"]) == (len(means), pytest.approx(np.mean(means)))
    groups = by_length(bits)
    assert sum(group["rows"] for group in groups) == len(bits)
    for group in groups:
        inside = [row for row in bits if group["shortest"] <= len(row) <= group["longest"]]
        assert group["text"]["value"] == pytest.approx(np.mean([row.sum() for row in inside]))


def test_how_texts_change():
    own = ["a quiet bar.", "good beer", "same"]
    found = compare_texts(own, ["a loud bar", "Loud music", "same"])
    assert found["changed"]["value"] == pytest.approx(2 / 3)
    assert found["lost"] == {"beer": 1, "good": 1, "quiet": 1}
    assert found["gained"] == {"loud": 2, "music": 1}
    assert found["alike"]["value"] == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_the_command_leaves_figures_picture_and_page(tiny_run, tiny_data, tmp_path, capsys):
    where = ["--data", str(tiny_data), "--out", str(tmp_path / "out")]
    few = ["--rows", "12", "--permutations", "2", "--ablation-rows", "4", "--text-rows", "2"]
    audit_command([str(tiny_run), *where, *few])
    printed = capsys.readouterr().out
    assert "Does the text depend on the embeddings?" in printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"audit.json", "audit.png", "report.html", "report.md"}
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert found["verdicts"]["depends_on_vector"]["text"].replace("'", "&#39;") in page
    assert (tmp_path / "out" / "audit.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="expected rows of at least 2, found 1"):
        audit_command([str(tiny_run), *where, "--rows", "1"])
