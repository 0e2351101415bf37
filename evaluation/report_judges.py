"""The judges' section of the page, from `judges.json`."""

from collections.abc import Mapping
from typing import Any

from .report_audit import cell
from .report_tables import name_of


def judges_section(judges: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs.

    Args:
        judges: What `judges.json` holds: `judges` by name and `agreement` by criterion.
    """
    each = [_judge(name, entry) for name, entry in judges["judges"].items()]
    return {
        "each": each,
        "agreement": [line for name, found in judges["agreement"].items() for line in _agreement(name, found)],
    }


def _judge(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    criteria = sorted({criterion for system in entry["systems"].values() for criterion in system})
    rows = [
        {
            "name": name_of(system),
            "kind": "model" if system == "model" else "condition",
            "cells": [cell(found.get(criterion)) for criterion in criteria],
        }
        for system, found in entry["systems"].items()
    ]
    return {"name": name, "verdict": entry["verdict"], "notes": entry["notes"], "table": {"columns": criteria, "rows": rows}}


def _agreement(criterion: str, found: Mapping[str, Any]) -> list[str]:
    alpha = found.get("alpha")
    lines = []
    if alpha is not None:
        lines.append(f"{criterion}: Krippendorff's alpha {cell(alpha)['value']} ({cell(alpha)['range']}).")
    return lines
