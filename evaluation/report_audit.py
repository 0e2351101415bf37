"""The audit's section of the page, from `audit.json`."""

from collections.abc import Mapping
from typing import Any

from .charts import Bar, bar_chart, line_chart, scatter
from .report_tables import DASH

QUESTIONS = {
    "depends_on_vector": "Does the text depend on the embeddings?",
    "depends_on_structure": "Does it depend on the graph's structure?",
}
HEARD = {
    "average": "the average of others",
    "permuted": "others' embeddings",
    "permuted user": "another user's embedding",
    "permuted item": "another item's embedding",
    "zero": "zero vectors",
    "noise": "random vectors",
    "random_fixed": "a model of random embeddings, held out",
    "held out": "others' embeddings, held out",
}


def audit_section(audit: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs.

    Args:
        audit: What `audit` returns.
    """
    held_out = audit["held_out"]
    worth = dict(audit["bits"])
    if "skipped" not in held_out:
        worth |= {"held out": held_out["permuted"], "random_fixed": held_out["random_fixed"]}
    places = audit["dilution"]["by_place"]
    parts = [bar for kind in audit["ablations"].values() for bar in kind]
    texts = {name: found for name, found in audit["texts"].items() if name != "rows"}
    return {
        "verdicts": [{"question": QUESTIONS[name], "text": one["text"]} for name, one in audit["verdicts"].items()],
        "rows": audit["rows"],
        "bits": bar_chart([_bar(HEARD[name], figure, _kind(name)) for name, figure in worth.items()]),
        "dilution": line_chart([(_place(one), one["value"], one["low"], one["high"]) for one in places]),
        "ablations": bar_chart([_bar(part["name"], part, "model") for part in parts]) if parts else None,
        "changes": _changes(texts),
        "change_count": audit["texts"].get("rows", 0),
        "histories": _histories(audit["histories"]),
        "gates": _gates(audit["gates"]),
        "map": _map(audit["map"]),
    }


def number(value: float | None, digits: int = 2, scale: float = 1.0) -> str:
    """A figure for readers; a dash where there is none."""
    return DASH if value is None else f"{value * scale:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def cell(figure: Mapping[str, float | None] | None, digits: int = 2, scale: float = 1.0) -> dict[str, str]:
    """A figure with its interval, for a table."""
    if figure is None or figure["value"] is None:
        return {"value": DASH, "range": ""}
    low, high = figure.get("low"), figure.get("high")
    span = "" if low is None or high is None else f"{number(low, digits, scale)} to {number(high, digits, scale)}"
    return {"value": number(figure["value"], digits, scale), "range": span}


def _kind(name: str) -> str:
    return "model" if name in ("average", "random_fixed") else "condition"


def _bar(name: str, figure: Mapping[str, Any], kind: str) -> Bar:
    return Bar(name, kind, figure["value"], figure["low"], figure["high"], number(figure["value"]))


def _place(group: Mapping[str, Any]) -> str:
    first, last = group["first"], group["last"]
    return str(first) if first == last else f"{first}{DASH}{last}"


def _changes(texts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        {
            "name": f"With {HEARD[name]}",
            "kind": "condition",
            "cells": [
                cell(found["changed"], 0, 100),
                cell(found["alike"], 2),
                {"value": ", ".join(list(found["lost"])[:5]) or DASH, "range": ""},
                {"value": ", ".join(list(found["gained"])[:5]) or DASH, "range": ""},
            ],
        }
        for name, found in texts.items()
    ]
    return {"first": "Signal", "columns": ["Texts changed, %", "Alike", "Words that go", "Words that come"], "rows": rows}


def _histories(histories: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        {"name": f"The {side}'s history", "kind": "model", "cells": [cell(found["carrying"], 3), cell(found["any"], 3)]}
        for side, found in histories.items()
        if "skipped" not in found
    ]
    return {"first": "History", "columns": ["Without the entry that carries most", "Without any one entry"], "rows": rows}


def _gates(gates: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {"name": f"{side.capitalize()} adapter", "kind": "model", "cells": [cell(one, 0, 100) for one in experts]}
        for side, experts in gates.items()
    ]
    count = max((len(experts) for experts in gates.values()), default=0)
    return {"first": "Side", "columns": [f"Expert {expert + 1}" for expert in range(count)], "rows": rows}


def _map(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"points": scatter(found["points"], found["clusters"], found["titles"]), "clusters": found["about"]}
