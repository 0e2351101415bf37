"""The report as Markdown: what a model card shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from .metrics import METRICS
from .report_audit import HEARD, QUESTIONS, cell
from .report_tables import best_floor, kept_when_shuffled, name_of

SHOWN = ("aspect_f1", "bert_f1", "rouge_1", "rouge_l", "bleu_4", "embedding_similarity", "bert_f1_rescaled", "usr", "words")


def markdown(
    result: Mapping[str, Any] | None,
    audit: Mapping[str, Any] | None,
    judges: Mapping[str, Any] | None,
    verdict: Sequence[str] = (),
) -> str:
    """Render the report.

    Args:
        result: What `evaluate_predictions` returns, or None.
        audit: What `audit` returns, or None.
        judges: What `judges.json` holds, or None.
        verdict: Sentences that say what the scores mean.

    Returns:
        Sections of level 3, to stand under a heading of the reader's own.
    """
    parts: list[str] = []
    if result is not None:
        parts += [
            "### Scores beside their floors",
            " ".join(_plain(line) for line in verdict),
            _scores(result),
            _pointing(result),
        ]
    if audit is not None:
        parts += ["### Does the text depend on the graph?", _audit(audit)]
    if judges is not None:
        lines = [f"- {_plain(name)}: {_plain(entry['verdict'])}" for name, entry in judges["judges"].items()]
        parts += ["### Judges", "\n".join(lines)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(result: Mapping[str, Any]) -> str:
    systems = result["systems"]
    keys = [result["headline"], *(key for key in SHOWN if key in systems["model"]["metrics"] and key != result["headline"])]
    header = ["System", *(METRICS[key].label for key in keys)]
    rows = []
    for name, system in systems.items():
        cells = [_figure(system["metrics"].get(key), key) for key in keys]
        mark = " (best floor)" if name == best_floor(result) else ""
        rows.append([name_of(name) + mark, *cells])
    for name, bounds in result["ceilings"].items():
        rows.append([name_of(name), *(_figure({"value": bounds[key]} if key in bounds else None, key) for key in keys)])
    note = f"{result['rows']:,} test rows; in brackets the 95 % bootstrap interval over rows. Shares in per cent."
    return f"{_table(header, rows)}\n\n{note}"


def _figure(figure: Mapping[str, Any] | None, key: str) -> str:
    metric = METRICS[key]
    if figure is None:
        return ""
    shown = metric.shown(figure["value"])
    return shown if figure.get("low") is None else f"{shown} ({metric.shown(figure['low'])} to {metric.shown(figure['high'])})"


def _pointing(result: Mapping[str, Any]) -> str:
    ranks = result["own_rank"]
    if ranks is None:
        return ""
    own, chance = ranks["systems"]["model"]["first"]["value"], ranks["chance"]
    nearest = f"The own reference is the nearest of {ranks['candidates']} in {100 * own:.1f} % of the rows"
    return f"{nearest} (by TF-IDF; chance {100 * chance:.1f} %). {kept_when_shuffled(result) or ''}".strip()


def _audit(audit: Mapping[str, Any]) -> str:
    lines = [f"- **{QUESTIONS[name]}** {_plain(one['text'])}" for name, one in audit["verdicts"].items()]
    rows = []
    for name, figure in audit["bits"].items():
        shown = cell(figure)
        rows.append([HEARD[name], f"{shown['value']} ({shown['range']})" if shown["range"] else shown["value"]])
    return "\n".join(lines) + "\n\n" + _table(["Instead of the true embeddings", "Bits an explanation lost"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """A text that means nothing in Markdown or HTML, in one line."""
    escaped = text.replace("\\", "\\\\").replace("<", "&lt;").replace("|", "\\|")
    return " ".join(escaped.split())
