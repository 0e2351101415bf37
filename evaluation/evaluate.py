"""Scores a model beside its floors on the same rows, and writes the figures and the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

from .aspect_f1 import Truth, load_truth
from .bootstrap import Interval, mean_intervals, paired_differences
from .files import check_folder, write_text
from .floors import Floors, available_floors
from .metrics import METRICS, Measured, measure
from .predictions import clean_predictions
from .report import render_report

SEED = 0
RESAMPLES = 1000
LEVEL = 0.95
MODEL = "model"


def score(rows: pl.DataFrame, truth: Truth | None = None) -> dict[str, Any]:
    """Score one system.

    Args:
        rows: prediction, reference and, where truth is given, user_id and item_id.
        truth: The truth of a synthetic world, or None.

    Returns:
        `metrics`: for each metric its `value` and, where it is a mean over rows, `low` and `high` (95 %, None for a
        single row); `settings`: signature and tokenizers.

    Raises:
        DataError: If there is no row, a column is missing, or the truth of a pair is not known.
    """
    rows = clean_predictions(rows)
    measured = measure(rows["prediction"].to_list(), rows["reference"].to_list(), truth, _shared(rows, truth))
    return {"metrics": _figures(measured), "settings": measured.settings}


def evaluate_predictions(
    predictions: pl.DataFrame,
    out: Path,
    data: Path | None = None,
    systems: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Score predictions, their floors and further systems on the same rows; write `metrics.json` and `report.html`.

    Args:
        predictions: prediction, reference and, if known, user_id and item_id; further columns are left out.
        out: Folder of the two files; it is created, and files of an earlier evaluation are replaced.
        data: Dataset folder that the pairs come from (test split). It adds titles, profiles, training texts and truth.
        systems: Further systems by name, such as "permuted embeddings": one text a row.

    Returns:
        What `metrics.json` holds: `rows`, `headline`, `settings`, `systems` (each with `kind`, `metrics` and, but for
        the model, `model_minus_system`), `ceilings`, `skipped`.

    Raises:
        DataError: If there is no row, a column or a pair is missing, or a system does not fit the rows.
    """
    check_folder(out)
    rows = clean_predictions(predictions)
    if rows.is_empty():
        raise DataError("expected at least one row to evaluate, found none: check the file or the limit")
    truth = load_truth(data) if data is not None else None
    training = None
    if data is not None:
        rows = _join(rows, data)
        training = read_table(DatasetFolder(data).explanations("train"), EXPLANATIONS)
    floors = available_floors(rows, training, SEED)
    texts = _systems(rows, systems or {}, floors)
    shared = _shared(rows, truth)
    measured = {name: measure(system, rows["reference"].to_list(), truth, shared) for name, system in texts.items()}
    result = _result(rows, measured, floors, truth)
    page = render_report(result, rows, measured[MODEL].per_row[result["headline"]], truth, shared)
    figures = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(out / "metrics.json", figures)
    write_text(out / "report.html", page)
    return result


def _join(rows: pl.DataFrame, data: Path) -> pl.DataFrame:
    _need_ids(rows)
    test = read_table(DatasetFolder(data).explanations("test"), EXPLANATIONS)
    test = test.unique(("user_id", "item_id"), keep="first", maintain_order=True)
    known = test.select("user_id", "item_id", "title", "item_profile", found=pl.lit(True))
    joined = rows.join(known, on=("user_id", "item_id"), how="left", maintain_order="left")
    missing = joined.filter(pl.col("found").is_null())
    if len(missing):
        user, item = missing.select("user_id", "item_id").row(0)
        raise DataError(
            f"expected every pair in the test split of {data}, found {len(missing)} of {len(rows)} missing "
            f"(first: user {user!r}, item {item!r}): give the data the predictions were made on"
        )
    return joined.drop("found")


def _systems(rows: pl.DataFrame, systems: Mapping[str, Sequence[str]], floors: Floors) -> dict[str, list[str]]:
    texts = {MODEL: rows["prediction"].to_list()}
    for name, system in systems.items():
        if name == MODEL or name in floors.texts or name in floors.skipped:
            raise DataError(f"expected a new name for a system, found {name!r}, which is taken: rename it")
        if len(system) != len(rows):
            raise DataError(f"expected {len(rows)} texts of {name!r}, found {len(system)}: explain the same rows")
        texts[name] = [text or "" for text in system]
    return texts | floors.texts


def _shared(rows: pl.DataFrame, truth: Truth | None) -> list[frozenset[str]] | None:
    if truth is None:
        return None
    _need_ids(rows)
    return truth.shared(rows["user_id"].to_list(), rows["item_id"].to_list())


def _need_ids(rows: pl.DataFrame) -> None:
    missing = [name for name in ("user_id", "item_id") if name not in rows.columns]
    if missing:
        raise DataError(
            f"expected user_id and item_id to find the pairs in the data, found no {', '.join(missing)}: "
            "add the ids, or evaluate without the data"
        )


def _result(rows: pl.DataFrame, measured: Mapping[str, Measured], floors: Floors, truth: Truth | None) -> dict[str, Any]:
    model = measured[MODEL]
    systems: dict[str, dict[str, Any]] = {}
    for name, system in measured.items():
        kind = "model" if name == MODEL else "floor" if name in floors.texts else "condition"
        systems[name] = {"kind": kind, "metrics": _figures(system)}
        if name != MODEL:
            systems[name]["model_minus_system"] = _differences(model, system)
    return {
        "rows": len(rows),
        "empty_predictions": _blank(rows["prediction"]),
        "empty_references": _blank(rows["reference"]),
        "headline": "aspect_f1" if truth is not None else "rouge_l",
        "settings": {**model.settings, "seed": SEED, "resamples": RESAMPLES, "level": LEVEL},
        "systems": systems,
        "ceilings": _ceilings(truth),
        "skipped": floors.skipped,
    }


def _figures(measured: Measured) -> dict[str, dict[str, float | None]]:
    stacked = np.column_stack(list(measured.per_row.values()))
    intervals = dict(zip(measured.per_row, mean_intervals(stacked, SEED, RESAMPLES, LEVEL), strict=True))
    figures = {key: _interval(interval) for key, interval in intervals.items()}
    figures |= {key: {"value": value} for key, value in measured.corpus.items()}
    return {key: figures[key] for key in METRICS if key in figures}


def _differences(model: Measured, system: Measured) -> dict[str, dict[str, float | None]]:
    a, b = (np.column_stack([one.per_row[key] for key in model.per_row]) for one in (model, system))
    differences = dict(zip(model.per_row, paired_differences(a, b, SEED, RESAMPLES, LEVEL), strict=True))
    figures = {key: {**_interval(found), "effect_size": found.effect_size} for key, found in differences.items()}
    figures |= {key: {"value": model.corpus[key] - system.corpus[key]} for key in model.corpus}
    return {key: figures[key] for key in METRICS if key in figures}


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"value": interval.mean, "low": interval.low, "high": interval.high}


def _ceilings(truth: Truth | None) -> dict[str, dict[str, float]]:
    bounds = {} if truth is None else {"oracle": truth.oracle_f1, "text only": truth.text_f1}
    return {name: {"aspect_f1": float(value)} for name, value in bounds.items() if value is not None}


def _blank(texts: pl.Series) -> int:
    return int((texts.str.strip_chars() == "").sum())
