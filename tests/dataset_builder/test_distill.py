import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import xrec_dataset_builder.distill as module
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.extractive import explanation
from xrec_dataset_builder.quoting import QuoteOptions
from xrec_dataset_builder.schema import REVIEWS, SPLITS, DatasetFolder, write_table

from .wording_teacher import distinct, edited


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_usable_review_explains_its_pair_in_its_split(built: Path):
    edited(built, distinct())
    assert distill(built, progress=False)
    folder = DatasetFolder(built)
    reviews = pl.read_parquet(folder.reviews)
    for split in SPLITS:
        rows = pl.read_parquet(folder.explanations(split))
        texts = {(r["user_id"], r["item_id"]): r["review"] for r in reviews.to_dicts() if r["split"] == split}
        assert rows.height == len(texts)
        assert all(text == explanation(texts[user, item]) for user, item, *_, text in rows.iter_rows())
        assert (rows["title"].str.contains(r"^Café \d$")).all()
    profiles = dict(pl.read_parquet(folder.users).iter_rows())
    assert dict(rows.select("user_id", "user_profile").iter_rows()).items() <= profiles.items()


def test_profiles_never_read_a_held_out_review(built: Path):
    """Each held-out review gets a word of its own; none of them may turn up in a profile."""
    folder = DatasetFolder(built)
    reviews = pl.read_parquet(folder.reviews)
    secret = pl.format("I loved the fresh secret{} because it was easy and great.", pl.int_range(pl.len()))
    write_table(
        reviews.with_columns(review=pl.when(pl.col("split") == "train").then("review").otherwise(secret)),
        folder.reviews,
        REVIEWS,
    )
    distill(built, progress=False)
    profiles = [*pl.read_parquet(folder.users)["user_profile"], *pl.read_parquet(folder.items)["item_profile"]]
    assert any(profiles)
    assert not any("secret" in profile for profile in profiles)
    assert all("secret" in text for text in pl.read_parquet(folder.explanations("test"))["explanation"])


def test_copies_of_held_out_reviews_neither_train_nor_feed_profiles(built: Path):
    folder = DatasetFolder(built)
    reviews = pl.read_parquet(folder.reviews).sort("split", "user_id", "item_id")
    copied = "I loved the unique marmalade because it was fresh!"
    same = (pl.col("split") == "test") | (pl.int_range(pl.len()) % 4 == 0)
    write_table(
        reviews.with_columns(review=pl.when(same).then(pl.lit(copied)).otherwise("review")).sort("user_id", "item_id"),
        folder.reviews,
        REVIEWS,
    )
    distill(built, progress=False)
    counts = json.loads(folder.build_json.read_text())["distillation"]["counts"]
    train = pl.read_parquet(folder.explanations("train"))
    assert counts["straddling_dropped"] > 10
    assert not train["explanation"].str.contains("marmalade").any()
    assert pl.read_parquet(folder.explanations("test"))["explanation"].str.contains("marmalade").all()
    assert not pl.read_parquet(folder.users)["user_profile"].str.contains("marmalade").any()
    made = sum(counts[f"explanations_{split}"] for split in SPLITS)
    gone = counts["without_text"] + counts["straddling_dropped"] + counts["without_reason"]
    assert counts["interactions"] == made + gone == reviews.height
    assert pl.read_parquet(folder.interactions("train")).height == (reviews["split"] == "train").sum()


def test_a_second_run_changes_nothing(built: Path):
    distill(built, progress=False)
    first = content(built)
    distill(built, progress=False)
    assert content(built) == first


def test_an_interrupted_run_leaves_the_folder_as_it_was(built: Path, monkeypatch: pytest.MonkeyPatch):
    before, beside = content(built), os.listdir(built.parent)

    def stop(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_card", stop)
    with pytest.raises(KeyboardInterrupt):
        distill(built, progress=False)
    assert content(built) == before
    assert os.listdir(built.parent) == beside


def test_a_run_killed_while_moving_is_completed_by_the_next(built: Path, monkeypatch: pytest.MonkeyPatch):
    moves = []

    def replace_some(source: Path, target: Path) -> None:
        if len(moves) == 3:
            raise KeyboardInterrupt
        moves.append(target)
        Path(source).rename(target)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", replace_some)
        with pytest.raises(KeyboardInterrupt):
            distill(built, progress=False)
    assert json.loads((built / "build.json").read_text())["distillation"] is None
    assert distill(built, progress=False)
    whole = content(built)
    distill(built, progress=False)
    assert content(built) == whole


def test_explanations_that_came_with_the_source_are_kept(tmp_path: Path):
    (tmp_path / "i.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(9) for i in range(5)))
    (tmp_path / "e.csv").write_text("user_id,item_id,explanation\n" + "".join(f"{u},0,why {u}\n" for u in range(9)))
    out = tmp_path / "data"
    inputs = Inputs(interactions=tmp_path / "i.csv", explanations=tmp_path / "e.csv")
    build("table", out, inputs=inputs)
    before = content(out)
    assert not distill(out)
    assert content(out) == before


def test_what_cannot_be_distilled_says_so(built: Path, tmp_path: Path):
    before = content(built)
    with pytest.raises(DataError, match="expected the teacher 'extractive' or a Teacher, found 'openai'"):
        distill(built, "openai")
    with pytest.raises(DataError, match="explanation_words of at least 1, found 0"):
        distill(built, quoting=QuoteOptions(explanation_words=0))
    with pytest.raises(DataError, match="no such folder; make one with `xrec build`"):
        distill(tmp_path / "none")
    folder = DatasetFolder(built)
    write_table(pl.read_parquet(folder.reviews).with_columns(review=pl.lit("ok")), folder.reviews, REVIEWS)
    with pytest.raises(DataError, match="expected reviews that state a reason, found none"):
        distill(built, progress=False)
    after = content(built)
    assert {name for name in before if before[name] != after[name]} == {"private/reviews.parquet"}
    folder.reviews.unlink()
    with pytest.raises(DataError, match=r"reviews\.parquet: expected a Parquet file, found none"):
        distill(built)


def test_the_folder_may_be_the_current_one(built: Path):
    code = "from pathlib import Path\nfrom xrec_dataset_builder import distill as d\nd.distill(Path(), progress=False)"
    subprocess.run([sys.executable, "-c", code], cwd=built, check=True)
    assert DatasetFolder(built).has_explanations()
