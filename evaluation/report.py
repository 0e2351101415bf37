"""Renders one evaluation as a self-contained HTML page, and says in a sentence what it found."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
import polars as pl

from .aspect_f1 import Truth, named_aspects
from .metrics import METRICS, WORD_LIMIT, Metric
from .report_template import PAGE

NAMES = {
    "model": "Model",
    "shuffled": "Shuffled",
    "copied_profile": "Copied profile",
    "template": "Template",
    "training_explanation": "Training text",
    "oracle": "Oracle",
    "text only": "Best from text alone",
}
MEANINGS = {
    "shuffled": "the model's own texts, each handed to another row, where they have nothing to do with user or item.",
    "copied_profile": "the item's profile, copied word for word.",
    "template": "one sentence for every row: The user would enjoy (title).",
    "training_explanation": "a training explanation of the same item, or of any item when it has none.",
    "oracle": "the best that any predictor can reach in this world, for its tastes are partly hidden.",
    "text only": "the best that titles and profiles allow without the graph.",
}
EXAMPLES = 10
ROW_HEIGHT = 40


def name_of(system: str) -> str:
    """Name a system for readers: the floors by plain names, any other with a capital letter."""
    return NAMES.get(system, system[:1].upper() + system[1:])


def best_floor(result: Mapping[str, Any]) -> str | None:
    """Name the floor with the highest headline figure, or None when there is no floor."""
    headline = result["headline"]
    floors = {
        name: system["metrics"][headline]["value"] for name, system in result["systems"].items() if system["kind"] == "floor"
    }
    return max(floors, key=lambda name: floors[name]) if floors else None


def verdict(result: Mapping[str, Any]) -> list[str]:
    """Say in plain language how far the model is above its floors.

    Args:
        result: What `evaluate_predictions` returns.

    Returns:
        One sentence on the best floor, then one for each further system.
    """
    metric = METRICS[result["headline"]]
    model = result["systems"]["model"]["metrics"][result["headline"]]["value"]
    floor = best_floor(result)
    sentences = []
    if floor is not None:
        sentences.append(
            f"{_standing(result, floor, metric)} its best floor, {name_of(floor).lower()}: "
            f"{metric.label} {metric.shown(model)} against {_numbers(result, floor, metric)}."
        )
    for name, system in result["systems"].items():
        if system["kind"] == "condition":
            sentences.append(
                f"{_standing(result, name, metric)} the same rows with {name}: "
                f"{metric.shown(model)} against {_numbers(result, name, metric)}."
            )
    return sentences


def render_report(
    result: Mapping[str, Any],
    rows: pl.DataFrame,
    row_scores: np.ndarray,
    truth: Truth | None = None,
    shared: Sequence[frozenset[str]] | None = None,
) -> str:
    """Render the page.

    Args:
        result: What `evaluate_predictions` returns.
        rows: prediction, reference and, if known, title, user_id, item_id.
        row_scores: `(rows,)` headline figure of the model.
        truth: Surface forms of the aspects, if known.
        shared: Shared aspects of each row, if known.

    Returns:
        HTML that loads nothing from elsewhere; every text is escaped.
    """
    metric = METRICS[result["headline"]]
    level = f"{result['settings']['level']:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return (
        environment.from_string(PAGE).render(
            title="Do the explanations beat their floors?",
            facts=_facts(result),
            verdict=verdict(result),
            headline=metric,
            plot=_plot(result),
            level=level,
            interval_note=f"Whiskers: {level} bootstrap over rows; differences are paired, each taken alone.",
            columns=_columns(result),
            table=_table(result),
            notes=_notes(result),
            examples=_examples(rows, row_scores, metric, truth, shared),
            examples_note=_examples_note(len(rows), metric, truth),
        )
        + "\n"
    )


def _standing(result: Mapping[str, Any], system: str, metric: Metric) -> str:
    difference = result["systems"][system]["model_minus_system"][result["headline"]]
    low, high = difference["low"], difference["high"]
    if low is None:
        return "One row cannot tell the model from"
    if low > 0:
        return f"The model is {metric.shown(difference['value'])} points above"
    if high < 0:
        return f"The model is {metric.shown(-difference['value'])} points below"
    return "The model cannot be told from"


def _numbers(result: Mapping[str, Any], system: str, metric: Metric) -> str:
    entry = result["systems"][system]
    value = metric.shown(entry["metrics"][result["headline"]]["value"])
    difference = entry["model_minus_system"][result["headline"]]
    if difference["low"] is None:
        return value
    low, high = (metric.shown(difference[end], signed=True) for end in ("low", "high"))
    level = f"{result['settings']['level']:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    return f"{value} ({level} interval of the difference {low} to {high})"


def _facts(result: Mapping[str, Any]) -> str:
    parts = [f"{result['rows']:,} row{'s' * (result['rows'] != 1)}, all systems on the same ones"]
    for key, text in (("empty_predictions", "empty predictions"), ("empty_references", "empty references")):
        if result[key]:
            parts.append(f"{result[key]:,} {text}")
    return " \N{MIDDLE DOT} ".join(parts)


def _notes(result: Mapping[str, Any]) -> list[str]:
    present = [*result["systems"], *result["ceilings"]]
    lines = [f"{name_of(name)}: {MEANINGS[name]}" for name in present if name in MEANINGS]
    lines += [f"{name_of(name)} is missing: {reason}." for name, reason in result["skipped"].items()]
    settings = result["settings"]
    lines.append(f"BLEU: sacrebleu, {settings['bleu']}. ROUGE tokenizer: {settings['rouge_tokenizer']}.")
    lines.append(f"Too long: more than {WORD_LIMIT} words. Distinct-n falls with the number of rows.")
    return lines


def _shown_metrics(result: Mapping[str, Any]) -> list[str]:
    return list(result["systems"]["model"]["metrics"])


def _columns(result: Mapping[str, Any]) -> list[str]:
    keys = _shown_metrics(result)
    return [METRICS[keys[0]].label, "Model ahead by", *(METRICS[key].label for key in keys[1:])]


def _table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = _shown_metrics(result)
    table = []
    for name, system in result["systems"].items():
        cells = [_cell(system["metrics"][key], METRICS[key]) for key in keys]
        ahead = system.get("model_minus_system", {}).get(keys[0])
        cells.insert(1, _cell(ahead, METRICS[keys[0]], signed=True))
        table.append({"name": name_of(name), "kind": system["kind"], "cells": cells})
    for name, bounds in result["ceilings"].items():
        cells = [_cell({"value": bounds[key]} if key in bounds else None, METRICS[key]) for key in keys]
        cells.insert(1, _cell(None, METRICS[keys[0]]))
        table.append({"name": name_of(name), "kind": "ceiling", "cells": cells})
    return table


def _cell(figure: Mapping[str, float | None] | None, metric: Metric, signed: bool = False) -> dict[str, str]:
    if figure is None or figure["value"] is None:
        return {"value": "\N{EN DASH}", "range": ""}
    low, high = figure.get("low"), figure.get("high")
    span = "" if low is None or high is None else f"{metric.shown(low, signed)} to {metric.shown(high, signed)}"
    return {"value": metric.shown(figure["value"], signed), "range": span}


def _plot(result: Mapping[str, Any]) -> dict[str, Any]:
    headline = result["headline"]
    metric = METRICS[headline]
    entries = [(name, system["kind"], system["metrics"][headline]) for name, system in result["systems"].items()]
    entries += [(n, "ceiling", {"value": b[headline]}) for n, b in result["ceilings"].items() if headline in b]
    top = _axis_top(max(figure.get("high") or figure["value"] for _, _, figure in entries) * metric.scale)

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * value * metric.scale / top, 2)

    bars = [
        {
            "name": name_of(name), "kind": kind, "label": metric.shown(figure["value"]), "y": 18 + ROW_HEIGHT * index,
            "width": place(figure["value"]), "low": place(figure.get("low")), "high": place(figure.get("high")),
        }
        for index, (name, kind, figure) in enumerate(entries)
    ]  # fmt: skip
    ticks = [
        {
            "x": 25 * step,
            "label": f"{top * step / 4:g}",
            "anchor": ("start", "middle", "middle", "middle", "end")[step],
        }
        for step in range(5)
    ]
    return {"height": 18 + ROW_HEIGHT * len(bars) + 18, "bars": bars, "ticks": ticks}


def _axis_top(highest: float) -> float:
    """Round up to a number whose quarters read well."""
    for top in (4, 8, 20, 40, 60, 80, 100):
        if highest <= top:
            return float(top)
    return 100.0 * math.ceil(highest / 100)


def _examples(
    rows: pl.DataFrame,
    row_scores: np.ndarray,
    metric: Metric,
    truth: Truth | None,
    shared: Sequence[frozenset[str]] | None,
) -> list[dict[str, Any]]:
    order = np.argsort(-row_scores, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int)]
    examples = []
    for index in chosen.tolist():
        row = rows.row(index, named=True)
        aspects = None
        if truth is not None and shared is not None:
            aspects = _aspects(named_aspects(row["prediction"], truth.aspects), shared[index])
        examples.append(
            {
                "title": (row.get("title") or "").strip() or f"Row {index + 1}",
                "ids": f"row {index + 1}, item {row['item_id']}" if row.get("item_id") else "",
                "score": metric.shown(float(row_scores[index])),
                "prediction": row["prediction"].strip(),
                "reference": row["reference"].strip(),
                "aspects": aspects,
            }
        )
    return examples


def _aspects(named: set[str], shared: frozenset[str]) -> list[dict[str, str]]:
    found = [{"name": name, "state": "named", "mark": " \N{CHECK MARK}"} for name in sorted(named & shared)]
    missed = [{"name": name, "state": "", "mark": " (not named)"} for name in sorted(shared - named)]
    wrong = [{"name": name, "state": "wrong", "mark": " (named, not shared)"} for name in sorted(named - shared)]
    return found + missed + wrong


def _examples_note(count: int, metric: Metric, truth: Truth | None) -> str:
    note = "All rows" if count <= EXAMPLES else f"{EXAMPLES} of {count:,} rows, spread evenly from the best to the worst"
    note += f", by {metric.label}."
    return note + (" Truth: the aspects that user and item share." if truth is not None else "")
