"""The report of a folder: one self-contained HTML page, and Markdown, from what evaluation, audit and judges left there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from xrec_dataset_builder.errors import DataError

from .files import write_text
from .metrics import METRICS, WORD_LIMIT, Metric
from .report_audit import QUESTIONS, audit_section
from .report_judges import judges_section
from .report_markdown import markdown
from .report_style import STYLE
from .report_tables import best_floor, metric_tables, name_of, notes, plot
from .report_template import TEMPLATES

METRICS_FILE, AUDIT_FILE, JUDGES_FILE = "metrics.json", "audit.json", "judges.json"
NEEDED = {
    METRICS_FILE: {"rows", "headline", "systems", "ceilings", "own_rank", "copied", "examples"},
    AUDIT_FILE: {"verdicts", "bits", "held_out", "dilution", "gates", "map"},
    JUDGES_FILE: {"judges", "agreement"},
}
"""What the report reads, and keys by which a file is known for ours."""


def write_report(folder: Path) -> None:
    """Write `report.html` and `report.md` from the JSON files of a folder.

    Args:
        folder: Holds `metrics.json`, `audit.json` or both, and perhaps `judges.json`.

    Raises:
        DataError: If a file is not ours, or the folder cannot be written to.
    """
    result, audit, judges = (_read(folder / name, keys) for name, keys in NEEDED.items())
    write_text(folder / "report.html", render_report(result, audit, judges))
    write_text(folder / "report.md", markdown(result, audit, judges, verdict(result) if result else []))


def _read(path: Path, keys: set[str]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found {error}; make it again") from error
    if not isinstance(found, dict) or not keys <= set(found):
        raise DataError(f"{path}: expected what this version of xrec writes, found another file; make it again")
    return found


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
    result: Mapping[str, Any] | None, audit: Mapping[str, Any] | None = None, judges: Mapping[str, Any] | None = None
) -> str:
    """Render the page.

    Args:
        result: What `evaluate_predictions` returns; None for a page without scores.
        audit: What `audit` returns, or None.
        judges: What `judges.json` holds, or None.

    Returns:
        HTML that loads nothing from elsewhere; every text is escaped.
    """
    loader = jinja2.DictLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    context: dict[str, Any] = {"style": STYLE, "title": "Does the text depend on the graph?", "facts": "", "verdict": []}
    context |= {"scores": None, "audit": None if audit is None else audit_section(audit)}
    context |= {"judges": None if judges is None else judges_section(judges), "grounding": None}
    if result is not None:
        context |= {
            "title": "Do the explanations beat their floors?",
            "facts": _facts(result),
            "verdict": verdict(result),
            "scores": _scores(result),
            "grounding": result.get("grounding"),
        }
    if audit is not None:
        context["verdict"] = [
            *context["verdict"],
            *(f"{QUESTIONS[name]} {one['text']}" for name, one in audit["verdicts"].items()),
        ]
    return environment.get_template("page").render(context) + "\n"


def _scores(result: Mapping[str, Any]) -> dict[str, Any]:
    metric = METRICS[result["headline"]]
    level = f"{result['settings']['level']:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    return {
        "headline": metric,
        "plot": plot(result),
        "level": level,
        "interval_note": f"Whiskers: {level} bootstrap over rows; differences are paired, each taken alone. "
        f"p-values are adjusted for {len(result['systems']) - 1} comparisons (Holm).",
        "tables": metric_tables(result),
        "notes": notes(result),
        "word_limit": WORD_LIMIT,
        "examples": [_example(example, metric) for example in result["examples"]],
        "examples_note": _examples_note(result, metric),
    }


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
    seeds = result["systems"]["model"].get("seeds")
    if seeds:
        parts.append(f"means over {len(seeds['values'])} seeds")
    return " \N{MIDDLE DOT} ".join(parts)


def _example(example: Mapping[str, Any], metric: Metric) -> dict[str, Any]:
    aspects = None
    if "named" in example:
        marks = {
            "named": ("named", " \N{CHECK MARK}"),
            "missed": ("", " (not named)"),
            "wrong": ("wrong", " (named, not shared)"),
        }
        aspects = [
            {"name": name, "state": state, "mark": mark} for key, (state, mark) in marks.items() for name in example[key]
        ]
    number = example["row"] + 1
    return {
        "title": example["title"] or f"Row {number}",
        "ids": f"row {number}, item {example['item_id']}" if example["item_id"] else "",
        "score": metric.shown(example["score"]),
        "prediction": example["prediction"],
        "reference": example["reference"],
        "aspects": aspects,
        "claims": example.get("claims"),
        "unfounded": [*example.get("unfounded_names", []), *example.get("unfounded_words", [])],
    }


def _examples_note(result: Mapping[str, Any], metric: Metric) -> str:
    shown, count = len(result["examples"]), result["rows"]
    note = "All rows" if count == shown else f"{shown} of {count:,} rows, spread evenly from the best to the worst"
    note += f", by {metric.label}."
    return note + (
        " Truth: the aspects that user and item share." if any("named" in one for one in result["examples"]) else ""
    )
