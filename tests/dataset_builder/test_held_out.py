import polars as pl

from xrec_dataset_builder.held_out import is_held_out, mark_held_out, without_held_out


def test_the_share_holds_and_an_id_keeps_its_lot():
    ids = [f"u{number}" for number in range(20_000)]
    lots = is_held_out(ids, 0.3)
    assert abs(sum(lots) / len(lots) - 0.3) < 0.01  # three standard deviations
    assert is_held_out(ids[::-1], 0.3) == lots[::-1]
    assert all(more for less, more in zip(lots, is_held_out(ids, 0.5), strict=True) if less)  # a larger share holds out more


def test_no_share_holds_out_nobody():
    assert not any(is_held_out(["a", "b", ""], 0.0))


def test_training_keeps_pairs_of_which_both_are_known():
    table = pl.DataFrame({"user_id": [f"u{n % 40}" for n in range(400)], "item_id": [f"i{n // 10}" for n in range(400)]})
    marked = mark_held_out(table, 0.3)
    kept = without_held_out(table, 0.3)
    gone = {one for one, lot in zip(table["user_id"], marked["user_held_out"], strict=True) if lot}
    gone |= {one for one, lot in zip(table["item_id"], marked["item_held_out"], strict=True) if lot}
    assert gone
    assert kept.rows() == [row for row in table.rows() if not gone & set(row)]
    assert without_held_out(table, 0.0).equals(table)
