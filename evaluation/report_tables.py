"""The tables and the plot of scores: every system beside the others, by groups of metrics."""

from collections.abc import Mapping
from typing import Any

from .charts import Bar, bar_chart
from .metrics import METRICS, WORD_LIMIT, Metric

NAMES = {
    "model": "Model",
    "shuffled": "Shuffled",
    "copied_profile": "Copied profile",
    "template": "Template",
    "other_user": "Another user's text",
    "nearest": "Nearest training text",
    "oracle": "Oracle",
    "text only": "Best from text alone",
    "reference": "Reference",
}
MEANINGS = {
    "shuffled": "the model's own texts, each handed to another row, where they have nothing to do with user or item.",
    "copied_profile": "the item's profile, copied word for word.",
    "template": "one sentence for every row: The user would enjoy (title).",
    "other_user": "what another user was told of the same item in training, or of any item when it has none.",
    "nearest": "the training explanation of the pair whose title and profiles read most alike (TF-IDF).",
    "oracle": "the best that any predictor can reach in this world, for its tastes are partly hidden.",
    "text only": "the best that titles and profiles allow without the graph.",
}
GROUPS = {
    "truth": "Beside the truth",
    "overlap": "Words shared with the reference",
    "meaning": "Meaning shared with the reference",
    "likelihood": "How likely the model finds the reference",
    "variety": "Variety",
    "length": "Length",
}
DASH = "\N{EN DASH}"


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


def plot(result: Mapping[str, Any]) -> dict[str, Any]:
    """Headline figures as bars."""
    headline = result["headline"]
    metric = METRICS[headline]
    entries = [(name, system["kind"], system["metrics"][headline]) for name, system in result["systems"].items()]
    entries += [(n, "ceiling", {"value": b[headline]}) for n, b in result["ceilings"].items() if headline in b]

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * metric.scale

    return bar_chart(
        [
            Bar(
                name_of(name),
                kind,
                figure["value"] * metric.scale,
                scaled(figure.get("low")),
                scaled(figure.get("high")),
                metric.shown(figure["value"]),
            )
            for name, kind, figure in entries
        ]
    )


def metric_tables(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table a group of metrics: first the headline with its differences, last rank and copying.

    Returns:
        Tables, each `name`, `columns` and `rows` (`name`, `kind`, `cells` of `value` and `range`).
    """
    headline = result["headline"]
    tables = [_headline_table(result, headline)]
    for group, name in GROUPS.items():
        known = {key for system in result["systems"].values() for key in system["metrics"]}
        keys = [key for key, metric in METRICS.items() if metric.group == group and key in known and key != headline]
        if keys:
            columns = [_column(METRICS[key]) for key in keys]
            tables.append({"name": name, "columns": columns, "rows": _rows(result, keys)})
    return [*tables, *_pointing(result)]


def kept_when_shuffled(result: Mapping[str, Any]) -> str | None:
    """How much of its ROUGE-L the model keeps when its texts are handed to other rows; None where that cannot be said."""
    systems = result["systems"]
    own = systems["model"]["metrics"]["rouge_l"]["value"]
    if "shuffled" not in systems or not own:
        return None
    share = systems["shuffled"]["metrics"]["rouge_l"]["value"] / own
    return f"Handed to other rows, the model's texts keep {100 * share:.0f} % of their ROUGE-L."


def notes(result: Mapping[str, Any]) -> list[str]:
    """What the systems are, what is missing, and how figures were computed."""
    present = [*result["systems"], *result["ceilings"]]
    kept = kept_when_shuffled(result)
    lines = [kept] if kept else []
    lines += [f"{name_of(name)}: {MEANINGS[name]}" for name in present if name in MEANINGS]
    lines += [f"{name_of(name)} is missing: {reason}." for name, reason in result["skipped"].items()]
    settings = {
        key: value for key, value in result["settings"].items() if key not in ("seed", "resamples", "level", "rouge_tokenizer")
    }
    lines += [f"{key.replace('_', ' ')}: {value}." for key, value in settings.items()]
    lines.append(f"ROUGE tokenizer: {result['settings']['rouge_tokenizer']}.")
    lines.append(f"Too long: more than {WORD_LIMIT} words. Distinct-n falls with the number of rows.")
    return lines


def _column(metric: Metric) -> str:
    arrows = {"more": " \N{UPWARDS ARROW}", "less": " \N{DOWNWARDS ARROW}", "": ""}
    return metric.label + arrows[metric.better]


def _headline_table(result: Mapping[str, Any], headline: str) -> dict[str, Any]:
    metric = METRICS[headline]
    rows = _rows(result, [headline])
    for row, system in zip(rows, result["systems"].values(), strict=False):
        ahead = system.get("model_minus_system", {}).get(headline)
        row["cells"].append(_cell(ahead, metric, signed=True))
        row["cells"] += [
            {"value": _plain(ahead, key, form), "range": ""} for key, form in (("effect_size", ".2f"), ("p_holm", ".3f"))
        ]
    for row in rows[len(result["systems"]) :]:
        row["cells"] += [{"value": DASH, "range": ""}] * 3
    columns = [_column(metric), "Model ahead by", "Effect size", "p (Holm)"]
    if any("seeds" in system for system in result["systems"].values()):
        columns.append("SD over seeds")
        spreads = [
            _cell({"value": one["seeds"]["sd"]} if "seeds" in one else None, metric) for one in result["systems"].values()
        ]
        for row, spread in zip(rows, [*spreads, *[_cell(None, metric)] * len(rows)], strict=False):
            row["cells"].append(spread)
    return {"name": metric.label, "columns": columns, "rows": rows}


def _plain(figure: Mapping[str, float | None] | None, key: str, form: str) -> str:
    value = None if figure is None else figure.get(key)
    return DASH if value is None else f"{value:{form}}".replace("-", "\N{MINUS SIGN}")


def _rows(result: Mapping[str, Any], keys: list[str]) -> list[dict[str, Any]]:
    rows = [
        {
            "name": name_of(name),
            "kind": system["kind"],
            "cells": [_cell(system["metrics"].get(key), METRICS[key]) for key in keys],
        }
        for name, system in result["systems"].items()
    ]
    for name, bounds in result["ceilings"].items():
        if any(key in bounds for key in keys):
            cells = [_cell({"value": bounds[key]} if key in bounds else None, METRICS[key]) for key in keys]
            rows.append({"name": name_of(name), "kind": "ceiling", "cells": cells})
    return rows


def _cell(figure: Mapping[str, float | None] | None, metric: Metric, signed: bool = False) -> dict[str, str]:
    if figure is None or figure["value"] is None:
        return {"value": DASH, "range": ""}
    low, high = figure.get("low"), figure.get("high")
    span = "" if low is None or high is None else f"{metric.shown(low, signed)} to {metric.shown(high, signed)}"
    return {"value": metric.shown(figure["value"], signed), "range": span}


def _pointing(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far texts point at their own pair, and how much of them is copied."""
    share = Metric("", "")
    tables = []
    ranks = result["own_rank"]
    if ranks is not None:
        columns = [f"Own reference first of {ranks['candidates']} \N{UPWARDS ARROW}", "Mean reciprocal rank \N{UPWARDS ARROW}"]
        rows = [
            {
                "name": name_of(name),
                "kind": _kind(result, name),
                "cells": [_cell(one[key], share) for key in ("first", "reciprocal")],
            }
            for name, one in ranks["systems"].items()
        ]
        chance = [{"value": share.shown(ranks["chance"]), "range": ""}, {"value": DASH, "range": ""}]
        tables.append(
            {
                "name": "Does the text point at its own pair?",
                "columns": columns,
                "rows": [*rows, {"name": "Chance", "kind": "floor", "cells": chance}],
            }
        )
    copied = result["copied"]
    known = [key for key in ("profiles", "training") if key in copied["systems"]["model"]]
    if known:
        labels = {"profiles": "Copied from the pair's profiles", "training": "Copied from a training text"}
        rows = [
            {"name": name_of(name), "kind": _kind(result, name), "cells": [_cell(one[key], share) for key in known]}
            for name, one in copied["systems"].items()
        ]
        name = f"Words in copied runs of {copied['run']} or more"
        tables.append({"name": name, "columns": [labels[key] for key in known], "rows": rows})
    return tables


def _kind(result: Mapping[str, Any], name: str) -> str:
    return result["systems"][name]["kind"] if name in result["systems"] else "ceiling"
