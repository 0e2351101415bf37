import pytest
import torch

from modeling_xrec.signals import apply_signal, derangement

TABLES = {
    "user_embeddings": torch.arange(8.0).view(4, 2), "item_embeddings": torch.arange(10.0).view(5, 2),
    "user_fold_in": torch.arange(8.0).view(4, 2) + 100, "item_fold_in": torch.arange(10.0).view(5, 2) + 100,
}  # fmt: skip


@pytest.mark.parametrize("size", [2, 3, 10, 1001])
def test_nothing_stays_in_its_place(size):
    order = derangement(size)
    assert sorted(order.tolist()) == list(range(size))
    assert (order != torch.arange(size)).all()
    assert torch.equal(order, derangement(size))


def test_conditions():
    assert all(torch.equal(value, TABLES[name]) for name, value in apply_signal(TABLES, "graph").items())
    assert not any(value.any() for value in apply_signal(TABLES, "zero").values())
    permuted = apply_signal(TABLES, "permuted")
    for side in ("user", "item"):
        table = permuted[f"{side}_embeddings"]
        assert sorted(table.tolist()) == TABLES[f"{side}_embeddings"].tolist()
        assert (table != TABLES[f"{side}_embeddings"]).any(dim=1).all()
        assert torch.equal(permuted[f"{side}_fold_in"], table + 100)


def test_an_unknown_condition_is_refused():
    with pytest.raises(ValueError, match="expected a signal among graph, permuted, zero, found 'louder'"):
        apply_signal(TABLES, "louder")
