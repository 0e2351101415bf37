"""The gift cards and the published splits, which are not in the repository: set XREC_TEST_DATA to their folder."""

import json
import os
from pathlib import Path

import polars as pl
import pytest

from xrec_dataset_builder import LeakError
from xrec_dataset_builder.build import Inputs, build
from xrec_dataset_builder.commands import build_command
from xrec_dataset_builder.distill import distill
from xrec_dataset_builder.leaks import straddling
from xrec_dataset_builder.schema import SPLITS, DatasetFolder

pytestmark = pytest.mark.slow


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("XREC_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set XREC_TEST_DATA to the folder of the public data")
    return Path(folder)


def test_the_gift_cards_end_to_end_add_up_to_their_lines(tmp_path: Path, data: Path):
    cards = data / "gift_cards"
    build("amazon-2018", tmp_path / "out", inputs=Inputs([cards / "Gift_Cards_5.json"], items=cards / "meta_Gift_Cards.json"))
    assert distill(tmp_path / "out", progress=False)
    folder = DatasetFolder(tmp_path / "out")
    about = json.loads(folder.build_json.read_text())
    counts, made = about["counts"], about["distillation"]["counts"]
    gone = ("skipped", "duplicates", "low_rating", "too_short", "other_language", "user_not_sampled", "over_cap")
    assert counts["read"] == 2972 == sum(counts[name] for name in (*gone, "outside_k_core", "kept"))
    assert counts["kept"] == sum(counts[split] for split in SPLITS) == made["interactions"]
    explained = sum(made[f"explanations_{split}"] for split in SPLITS)
    assert made["interactions"] == explained + made["without_text"] + made["straddling_dropped"] + made["without_reason"]
    assert made["straddling_dropped"] == counts["straddling_training_reviews"] > 500
    reviews = pl.read_parquet(folder.reviews)
    explained_pairs = pl.concat([pl.read_parquet(folder.explanations(split)) for split in SPLITS])
    copies = reviews.filter(straddling(reviews))
    assert explained_pairs.join(copies, on=["user_id", "item_id"], how="semi").is_empty()


@pytest.mark.parametrize(("name", "share"), [("yelp", "81.1 %"), ("google", "78.9 %")])
def test_a_published_split_is_refused_and_repaired(tmp_path: Path, data: Path, name: str, share: str):
    argv = ["table", "--out", str(tmp_path / "out"), "--items", str(data / name / "item_profiles.parquet")]
    for role in ("interactions", "explanations"):
        argv += [f"--{role}", str(data / name / f"{role}.parquet")]
    with pytest.raises(LeakError, match=rf"{share}.*--repair-leaks"):
        build_command(argv)
    build_command([*argv, "--repair-leaks"])
    about = json.loads(DatasetFolder(tmp_path / "out").build_json.read_text())
    assert (about["leak_report"]["count"], about["counts"]["removed_explanation_pairs"]) == (0, 3000)
