import pytest
import torch

from modeling_xrec.signals import SIGNALS, apply_signal, constant_tables, derangement, fresh_embeddings

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
    with pytest.raises(ValueError, match=f"expected a signal among {', '.join(SIGNALS)}, found 'louder'"):
        apply_signal(TABLES, "louder")


def test_random_conditions_keep_the_size_of_the_numbers_and_differ_from_each_other():
    tables = {name: torch.randn(4000, 8) * (3 if "user" in name else 0.5) for name in TABLES}
    fixed, fresh = apply_signal(tables, "random-fixed"), apply_signal(tables, "random-fresh")
    assert all(torch.equal(value, fixed[name]) for name, value in apply_signal(tables, "random-fixed").items())
    for name, table in tables.items():
        for drawn in (fixed[name], fresh[name], fresh_embeddings(table, 4000)):
            assert drawn.shape == table.shape
            assert drawn.square().mean().sqrt() == pytest.approx(table.square().mean().sqrt().item(), rel=0.05)
            assert abs(torch.corrcoef(torch.stack([drawn.flatten(), table.flatten()]))[0, 1]) < 0.03
        assert not torch.equal(fixed[name], fresh[name])
    assert not torch.equal(fresh_embeddings(tables["user_embeddings"], 3), fresh_embeddings(tables["user_embeddings"], 3))
    assert not torch.equal(fixed["user_embeddings"] / 3, fixed["item_embeddings"] / 0.5)


def test_a_soft_prompt_says_the_same_of_everyone():
    for name, table in constant_tables(TABLES).items():
        assert (table == table[0, 0]).all()
        assert table[0, 0] == pytest.approx(TABLES[name].square().mean().sqrt().item())
