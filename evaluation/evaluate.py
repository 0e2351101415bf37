"""Scores a model beside its floors on the same rows, and writes the figures and the report."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xrec_dataset_builder.errors import DataError
from xrec_dataset_builder.schema import EXPLANATIONS, DatasetFolder, read_table

from .aspect_f1 import Truth, load_truth
from .comparison import LEVEL, RESAMPLES, SEED, adjust, average, by_seed, differences, figures, mean_figure
from .copying import RUN, Source, copied_from_own
from .examples import choose_examples
from .files import check_folder, write_text
from .floors import Floors, available_floors
from .grounded_examples import Grounder, ground_evaluation
from .metric_options import Models
from .metrics import Measured, measure
from .own_rank import OwnReferences
from .predictions import clean_predictions
from .report import METRICS_FILE, write_report

MODEL = "model"
HEADLINES = ("aspect_f1", "bert_f1", "rouge_1")
"""The first that can be computed leads the report: the truth, then what agrees best with judges (docs/metrics.md)."""
Texts = Sequence[str] | Sequence[Sequence[str]]
"""One text a row; or for several seeds one such list each."""


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
    return {"metrics": figures(measured), "settings": measured.settings}


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds the references.

    Attributes:
        nats: Log-probability of each reference and its end, `(rows,)`.
        tokens: Number of their tokens, `(rows,)`.
    """

    nats: np.ndarray
    tokens: np.ndarray


def evaluate_predictions(
    predictions: pl.DataFrame,
    out: Path,
    data: Path | None = None,
    systems: Mapping[str, Texts] | None = None,
    seeds: Sequence[Sequence[str]] = (),
    models: Models | None = None,
    likelihoods: Mapping[str, Sequence[Likelihood]] | None = None,
    grounder: Grounder | None = None,
) -> dict[str, Any]:
    """Score predictions, their floors and further systems on the same rows; write the figures and the report.

    Args:
        predictions: prediction, reference and, if known, user_id and item_id; further columns are left out.
        out: Folder of `metrics.json`, `report.html` and `report.md`; it is created, and those of an earlier evaluation are
            replaced. What an audit or a judge left there becomes part of the report.
        data: Dataset folder that the pairs come from (test split). It adds titles, profiles, training texts and truth.
        systems: Further systems by name, such as "permuted embeddings": one text a row, or several seeds of these.
        seeds: Texts of the same model trained with further seeds, each one a row; figures are means over all.
        models: Loaded models of further metrics.
        likelihoods: Of the model and further systems, by name, where known; one a seed.
        grounder: Looks for the claims of the texts in what the training split knows; None, or no data, leaves that out.

    Returns:
        What `metrics.json` holds: `rows`, `headline`, `settings`, `systems` (each with `kind`, `metrics`, `seeds` where there
        are several and, but for the model, `model_minus_system`), `ceilings`, `skipped`, `own_rank`, `copied`, `examples`,
        and `grounding` where there is a grounder.

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
    texts = _systems(rows, {MODEL: seeds, **(systems or {})}, floors)
    shared = _shared(rows, truth)
    references = rows["reference"].to_list()
    measured = {name: [measure(run, references, truth, shared, models) for run in runs] for name, runs in texts.items()}
    for name, found in (likelihoods or {}).items():
        measured[name] = [_with_likelihood(run, one) for run, one in zip(measured[name], found, strict=True)]
    result = _result(rows, measured, floors, truth)
    first = {name: runs[0] for name, runs in texts.items()}
    result |= {"own_rank": _own_rank(references, first), "copied": _copied(rows, first, training)}
    result["examples"] = choose_examples(rows, average(measured[MODEL]).per_row[result["headline"]], truth, shared)
    if grounder is not None and data is not None:
        result["grounding"], result["examples"] = ground_evaluation(rows, data, grounder, result["examples"])
    write_text(out / METRICS_FILE, json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_report(out)
    return result


def _join(rows: pl.DataFrame, data: Path) -> pl.DataFrame:
    _need_ids(rows)
    test = read_table(DatasetFolder(data).explanations("test"), EXPLANATIONS)
    test = test.unique(("user_id", "item_id"), keep="first", maintain_order=True)
    known = test.select("user_id", "item_id", "title", "item_profile", "user_profile", found=pl.lit(True))
    joined = rows.join(known, on=("user_id", "item_id"), how="left", maintain_order="left")
    missing = joined.filter(pl.col("found").is_null())
    if len(missing):
        user, item = missing.select("user_id", "item_id").row(0)
        raise DataError(
            f"expected every pair in the test split of {data}, found {len(missing)} of {len(rows)} missing "
            f"(first: user {user!r}, item {item!r}): give the data the predictions were made on"
        )
    return joined.drop("found")


def _systems(rows: pl.DataFrame, systems: Mapping[str, Texts], floors: Floors) -> dict[str, list[list[str]]]:
    """Texts of every system, a list for each seed."""
    found = {MODEL: [rows["prediction"].to_list()]}
    for name, texts in systems.items():
        if name in floors.texts or name in floors.skipped:
            raise DataError(f"expected a new name for a system, found {name!r}, which is taken: rename it")
        runs: Any = texts if name == MODEL or (len(texts) and not isinstance(texts[0], str | None)) else [texts]
        for run in runs:
            if len(run) != len(rows):
                raise DataError(f"expected {len(rows)} texts of {name!r}, found {len(run)}: explain the same rows")
        found[name] = found.get(name, []) + [[text or "" for text in run] for run in runs]
    return found | {name: [texts] for name, texts in floors.texts.items()}


def _with_likelihood(measured: Measured, found: Likelihood) -> Measured:
    per_row = measured.per_row | {"nll": -found.nats / found.tokens}
    corpus = measured.corpus | {"perplexity": math.exp(-found.nats.sum() / found.tokens.sum())}
    return Measured(per_row, corpus, measured.settings)


def _own_rank(references: Sequence[str], texts: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """How often each system's text is nearest to its own reference; None for a single row."""
    if len(references) < 2:
        return None
    own = OwnReferences(references, SEED)
    ranks = {name: own.rank(system) for name, system in texts.items()}
    return {
        "candidates": own.size,
        "rows": len(own.rows),
        "chance": 1 / own.size,
        "systems": {
            name: {"first": mean_figure(found.first), "reciprocal": mean_figure(found.reciprocal)}
            for name, found in ranks.items()
        },
    }


def _copied(rows: pl.DataFrame, texts: Mapping[str, Sequence[str]], training: pl.DataFrame | None) -> dict[str, Any]:
    """Share of each system's words, and of the references', that stand word for word in profiles and training texts."""
    profiles = [name for name in ("item_profile", "user_profile") if name in rows.columns]
    known = None if training is None else Source(training["explanation"])
    sources = rows.select(profiles).rows() if profiles else None
    found: dict[str, Any] = {}
    for name, system in {**texts, "reference": rows["reference"].to_list()}.items():
        found[name] = {}
        if sources is not None:
            found[name]["profiles"] = mean_figure(copied_from_own(system, sources))
        if known is not None:
            found[name]["training"] = mean_figure(known.copied(system))
    return {"run": RUN, "systems": found}


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


def _result(rows: pl.DataFrame, measured: Mapping[str, list[Measured]], floors: Floors, truth: Truth | None) -> dict[str, Any]:
    means = {name: average(runs) for name, runs in measured.items()}
    headline = next(key for key in HEADLINES if key in means[MODEL].per_row)
    systems: dict[str, dict[str, Any]] = {}
    for name, system in means.items():
        kind = "model" if name == MODEL else "floor" if name in floors.texts else "condition"
        systems[name] = {"kind": kind, "metrics": figures(system)}
        if seeds := by_seed(measured[name], headline):
            systems[name]["seeds"] = seeds
        if name != MODEL:
            systems[name]["model_minus_system"] = differences(means[MODEL], system)
    adjust(systems, headline)
    return {
        "rows": len(rows),
        "empty_predictions": _blank(rows["prediction"]),
        "empty_references": _blank(rows["reference"]),
        "headline": headline,
        "settings": {**means[MODEL].settings, "seed": SEED, "resamples": RESAMPLES, "level": LEVEL},
        "systems": systems,
        "ceilings": _ceilings(truth),
        "skipped": floors.skipped,
    }


def _ceilings(truth: Truth | None) -> dict[str, dict[str, float]]:
    bounds = {} if truth is None else {"oracle": truth.oracle_f1, "text only": truth.text_f1}
    return {name: {"aspect_f1": float(value)} for name, value in bounds.items() if value is not None}


def _blank(texts: pl.Series) -> int:
    return int((texts.str.strip_chars() == "").sum())
