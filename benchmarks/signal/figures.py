"""Figures of the grid: bits that the graph gives, paired by row, and the texts beside their floors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from cells import GRAPH, INJECTIONS, PLAIN, Cell

from xrec_evaluation.bootstrap import mean_interval, paired_difference
from xrec_evaluation.floors import available_floors
from xrec_evaluation.metrics import measure
from xrec_evaluation.own_rank import OwnReferences
from xrec_evaluation.text_changes import compare_texts

KEYS = ("user_id", "item_id")
SWAPS = ("other_pair", "other_user", "other_item")
SHOWN = ("rouge_l", "rouge_1", "bleu_4")
Tables = Mapping[Cell, pl.DataFrame]


def figure(interval: Any) -> dict[str, Any]:
    """A mean with its 95 % interval."""
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def over_seeds(cell: Cell, scored: Tables) -> pl.DataFrame:
    """A cell's scores, each row's mean over the seeds that were run."""
    tables = [table for other, table in scored.items() if replace(other, seed=0) == replace(cell, seed=0)]
    if any(table.select(KEYS).rows() != tables[0].select(KEYS).rows() for table in tables):
        raise ValueError(f"{cell.name}: expected the same rows from every seed, found others")
    columns = ("own", *SWAPS)
    return tables[0].with_columns(pl.Series(name, np.mean([table[name] for table in tables], axis=0)) for name in columns)


def difference(better: pl.DataFrame, worse: pl.DataFrame, column: str = "own") -> dict[str, Any]:
    """Bits that one table's references are likelier by, in all and by part.

    Args:
        better: scores, of whose `own` is subtracted.
        worse: scores of the same rows.
        column: of `worse`.
    """
    found = {"all": figure(paired_difference(better["own"].to_numpy(), worse[column].to_numpy()))}
    parts = better["part"].unique().sort().to_list()
    for part in parts if len(parts) > 1 else []:
        chosen = (better["part"] == part).to_numpy()
        found[part] = figure(paired_difference(better["own"].to_numpy()[chosen], worse[column].to_numpy()[chosen]))
    return found


def task_figures(task: str, scored: Tables) -> dict[str, Any]:
    """What the graph gives in one task: over each other condition, over others' embeddings, by injection and by lever."""
    cells = {replace(cell, seed=0) for cell in scored if cell.task == task}
    means = {cell: over_seeds(cell, scored) for cell in cells}
    found: dict[str, Any] = {}
    for cell in sorted(cells, key=lambda cell: cell.name):
        seeds = sorted(other.seed for other in scored if replace(other, seed=0) == cell)
        entry: dict[str, Any] = {"seeds": seeds, "rows": len(means[cell]), "bits": figure(mean_interval(-means[cell]["own"]))}
        entry["bits_a_token"] = -means[cell]["own"].sum() / means[cell]["tokens"].sum()
        entry["over_others_embeddings"] = {swap: difference(means[cell], means[cell], swap) for swap in SWAPS}
        if cell.condition == GRAPH:
            others = [other for other in cells if other != cell and replace(other, condition=GRAPH) == cell]
            entry["over"] = {o.condition: difference(means[cell], means[o]) for o in sorted(others, key=lambda o: o.name)}
            plain = replace(cell, lever=PLAIN)
            if cell.lever != PLAIN and plain in means:
                entry["over_plain"] = difference(means[cell], means[plain])
            shallow = replace(cell, injection=INJECTIONS[-1])
            if cell.injection != shallow.injection and shallow in means:
                entry["over_input"] = difference(means[cell], means[shallow])
        found[cell.name.rpartition(".")[0]] = entry
    return found


def text_figures(texts: Mapping[str, pl.DataFrame], training: pl.DataFrame, rows: pl.DataFrame) -> dict[str, Any]:
    """Texts of some systems and of the floors, on the same rows.

    Args:
        texts: from `scoring.texts`, by system; the floors are those of the first.
        training: the explanations that train.
        rows: `title` and the profiles that the prompt may hold, of the same pairs.
    """
    first = next(iter(texts.values()))
    references = first["reference"].to_list()
    floors = available_floors(rows.with_columns(first["prediction"]), training).texts
    systems: dict[str, Sequence[str]] = {name: table["prediction"].to_list() for name, table in texts.items()}
    ranks = OwnReferences(references)
    found: dict[str, Any] = {}
    for name, predictions in {**systems, **{f"floor: {name}": text for name, text in floors.items()}}.items():
        measured = measure(predictions, references)
        figures: dict[str, Any] = {
            key: figure(mean_interval(measured.per_row[key])) for key in SHOWN if key in measured.per_row
        }
        figures |= {key: value for key, value in measured.corpus.items() if key in (*SHOWN, "usr")}
        figures["own_first_of_100"] = figure(mean_interval(ranks.rank(predictions).first))
        if name in texts:
            changes = compare_texts(predictions, texts[name]["other_user"].to_list())
            figures["with_another_user"] = {key: changes[key] for key in ("changed", "alike")}
        found[name] = figures
    return found
