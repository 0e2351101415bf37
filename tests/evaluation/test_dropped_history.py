import numpy as np
import polars as pl
import pytest
import torch

from xrec_evaluation.dropped_history import Histories
from xrec_evaluation.explain import Explainer
from xrec_evaluation.likelihood import ReferenceLikelihood


@pytest.fixture(scope="module")
def scorer(tiny_run, tiny_data):
    table = pl.read_parquet(tiny_data / "data" / "explanations" / "test.parquet").head(6)
    return ReferenceLikelihood(Explainer(tiny_run), table.select("user_id", "item_id", reference="explanation"))


@pytest.mark.parametrize("side", ["user", "item"])
def test_an_entry_less_is_a_fold_in_of_the_others(scorer, tiny_data, side):
    """Beside the definition: the sum of fold-in rows over the root of their number, at the length of the table's rows."""
    other = "item" if side == "user" else "user"
    edges = pl.read_parquet(tiny_data / "data" / "interactions" / "train.parquet")
    histories = Histories(scorer, tiny_data, side)
    found = {dropped: getattr(histories.signal(dropped), side) for dropped in ("nothing", "carrying", "any")}
    opposite = getattr(scorer.signal(), other)
    table = getattr(scorer.model.lightgcn, f"{other}_fold_in")
    index = getattr(scorer.processor, f"{other}_index")
    exponent = scorer.model.lightgcn.length_exponent if side == "item" else 0
    for row, node in enumerate(getattr(scorer, f"{side}s").tolist()):
        own_id = getattr(scorer.processor, f"{side}s")[node][f"{side}_id"]
        touched = [index(one) for one in edges.filter(pl.col(f"{side}_id") == own_id)[f"{other}_id"]]
        assert histories.usable[row] == (len(touched) > 1)
        parts = {one: table[one] for one in touched}

        def unit(keys, parts=parts):
            folded = sum(parts[key] for key in keys) / len(keys) ** 0.5
            return folded / folded.norm() ** (1 - exponent)

        best = max(touched, key=lambda one: float(parts[one] @ opposite[row]))
        torch.testing.assert_close(found["nothing"][row], unit(touched))
        torch.testing.assert_close(found["carrying"][row], unit([one for one in touched if one != best]))
        without = [unit([one for one in touched if one != gone]) for gone in touched]
        assert any(torch.allclose(found["any"][row], one, atol=1e-6) for one in without)
    assert torch.equal(getattr(histories.signal("carrying"), other), opposite)


def test_a_history_of_one_keeps_its_own_embedding(scorer, tiny_data, monkeypatch):
    histories = Histories(scorer, tiny_data, "user")
    histories._entries = [torch.tensor([0])] * len(scorer)
    histories.usable = np.zeros(len(scorer), dtype=bool)
    assert torch.equal(histories.signal("carrying").user, scorer.signal().user)
