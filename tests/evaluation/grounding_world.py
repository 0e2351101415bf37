"""A small dataset folder, written by its published paths, with marks in every text that must never be evidence."""

import json
from pathlib import Path

import polars as pl

from xrec_dataset_builder.schema import (
    EXPLANATIONS,
    INTERACTIONS,
    ITEMS,
    REVIEWS,
    SPLITS,
    STRADDLING,
    USERS,
    DatasetFolder,
    write_table,
)

PROFILES = {
    "i1": ("Fern Hall", "A hall known for live music and the cheap tea."),
    "i2": ("Opal Bar", ""),
    "i3": ("Dune Inn", "It serves grilled fish. It has a shady garden."),
    "i4": ("", ""),
    "i5": ("Live Music Hall", ""),
}
TASTES = {"u1": "The user loves old maps.", "u2": "", "u3": "The user loves grilled fish."}
PAIRS = {
    "train": [("u1", "i1"), ("u1", "i3"), ("u2", "i1"), ("u2", "i3"), ("u3", "i2"), ("u3", "i3")],
    "validation": [("u2", "i2"), ("u3", "i1")],
    "test": [("u1", "i2"), ("u3", "i4")],
}
"""Interactions, later ones with later times; (u2, i3) is a training review that a held-out one nearly repeats."""


def write_world(root: Path, held_out_in_training: bool = False) -> Path:
    """Every review says "review-USER-ITEM", every explanation "reason-USER-ITEM"."""
    folder = DatasetFolder(root)
    reviews = []
    for split in SPLITS:
        pairs = PAIRS[split] + (PAIRS["test"][:1] if held_out_in_training and split == "train" else [])
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        times = list(range(len(pairs)))
        ids = {"user_id": users, "item_id": items}
        edges = pl.DataFrame(ids | {"rating": [5.0] * len(pairs), "timestamp": times}, schema=INTERACTIONS)
        write_table(edges, folder.interactions(split), INTERACTIONS)
        texts = [f"The user loved the reason-{user}-{item}." for user, item in pairs]
        explained = pl.DataFrame(
            ids
            | {"title": [PROFILES[item][0] for item in items], "explanation": texts}
            | {"user_profile": [TASTES[user] for user in users], "item_profile": [PROFILES[item][1] for item in items]}
        )
        write_table(explained.select(list(EXPLANATIONS)), folder.explanations(split), EXPLANATIONS)
        written = [f"I came for the review-{user}-{item}." for user, item in pairs]
        reviews.append(edges.with_columns(review=pl.Series(written), split=pl.lit(split)))
    write_table(pl.concat(reviews), folder.reviews, REVIEWS)
    write_table(pl.DataFrame({"user_id": ["u2"], "item_id": ["i3"]}), folder.straddling, STRADDLING)
    items = pl.DataFrame([(item, *texts) for item, texts in PROFILES.items()], schema=list(ITEMS), orient="row")
    write_table(items, folder.items, ITEMS)
    write_table(pl.DataFrame(list(TASTES.items()), schema=list(USERS), orient="row"), folder.users, USERS)
    folder.build_json.write_text(json.dumps({"source": "table"}))
    return root
